#pragma once
// Are true features found? Data made of known sparse features, factorised from several beginnings.

#include "studies/study.h"

namespace sememe::snmf {

/// Claims `planted`, `planted-restarts` and `planted-control`.
void study_planted(const StudyOptions& options, StudyResult& result);

}  // namespace sememe::snmf
