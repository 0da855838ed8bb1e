#pragma once
// Runs a test once for each instruction set that this build has code for and this processor can run.

#include <gtest/gtest.h>
#include <hwy/highway.h>
#include <hwy/targets.h>

namespace sememe::kernels {

template <class Body>
void on_every_target(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

/// Row lengths around every vector length from 128 to 512 bits, and around the unrolled steps.
inline constexpr int64_t kWidths[] = {0,  1,  2,  3,  4,  5,   7,   8,   9,   15,  16,  17,   31,   32,  33,
                                      63, 64, 65, 100, 127, 128, 129, 255, 257, 511, 1000, 1023, 1025, 4099};

}  // namespace sememe::kernels
