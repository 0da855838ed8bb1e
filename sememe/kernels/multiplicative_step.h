#pragma once
// The multiplicative step of semi-nonnegative matrix factorisation (Ding, Li & Jordan 2010, eq. 13), for a tile of rows that stays in the
// cache from the first read to the last write.

#include <cstdint>

#include "sememe/kernels/code_rows.h"

namespace sememe::kernels {

struct MultiplicativeStep {
  const float* coefficients;  ///< [features, rows] G, not negative
  const float* products;      ///< [features, rows] P, the features times the rows
  int64_t rows;
  CodeRows up, down;    ///< [features, features] the features' products with each other that are negative, without the sign, and positive
  const float* scales;  ///< [features] what the coefficients of a feature are multiplied by; the weights in up and down count it in
  float ridge;
  float least;  ///< a coefficient below this becomes 0
};

/// next[i] = scales[i] coefficients[i] sqrt(([P[i]]+ + up[i] . G) / ([P[i]]- + down[i] . G + ridge)), for each feature i.
/// @param next [features, rows], not overlapping the rest
/// @return the sum of next * products
double multiplicative_step(const MultiplicativeStep& step, float* next);
double multiplicative_step_reference(const MultiplicativeStep& step, float* next);

}  // namespace sememe::kernels
