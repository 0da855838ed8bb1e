#pragma once
// g-SAE (Olmo et al. 2024, arXiv 2411.10397): TopK dictionaries whose selection also looks at the gradient of the loss.

#include "studies/study.h"

namespace sememe {

StudyResult run_g_sae(const StudyOptions& options);

}  // namespace sememe
