#pragma once
// SNMF (Shafran, Geiger & Geva 2025, arXiv 2506.10920): hidden activations factorised into sparse combinations of units; do the features find
// planted ones, tell concepts apart, and steer?

#include "studies/study.h"

namespace sememe {

StudyResult run_snmf(const StudyOptions& options);

}  // namespace sememe
