#pragma once
// CoreInfer (Wang et al. 2024, arXiv 2410.18311): the neurons that a prompt keeps firing are enough to decode what follows. What that costs, what it
// saves, and how stable and how alike the neurons of texts are.

#include "studies/study.h"

namespace sememe {

StudyResult run_coreinfer(const StudyOptions& options);

}  // namespace sememe
