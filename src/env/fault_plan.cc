#include "src/env/fault_plan.h"

namespace cairn {

Status FaultPlan::PowerIsOff(const std::string& path) {
  return Status(Code::kIo, path + ": the power is off", EIO);
}

bool FaultPlan::Matches(const Fault& fault, const Operation& operation) {
  if (!fault.ops.Has(operation.op)) return false;
  if (operation.path.find(fault.path_contains) != std::string::npos) return true;
  return operation.other_path != nullptr &&
         operation.other_path->find(fault.path_contains) != std::string::npos;
}

bool FaultPlan::StepCut(PlannedCut& cut) {
  if (cut.remaining == 0 || --cut.remaining > 0) return false;
  power_on_ = false;
  return cut.side == CutSide::kBefore;
}

FaultPlan::Admission FaultPlan::Begin(const Operation& operation) {
  if (!power_on_) return {.status = PowerIsOff(operation.path)};
  ++counts_[static_cast<size_t>(operation.op)];
  bool cut_before = false;
  if (operation.op == Op::kSync || operation.op == Op::kSyncDir) cut_before = StepCut(sync_cut_);
  if (operation.mutates) {
    ++mutation_count_;
    cut_before |= StepCut(mutation_cut_);
  }
  if (cut_before) return {.status = PowerIsOff(operation.path)};

  Admission admission;
  for (Fault& fault : faults_) {
    if (fault.nth == 0 || !Matches(fault, operation)) continue;
    const bool due = fault.nth == 1;
    if (!due || !fault.forever) --fault.nth;
    if (!due || !admission.status.ok()) continue;
    ++fired_count_;
    admission = {.status = Status::FromErrno(fault.error, operation.path + ": injected fault"),
                 .written_bytes = fault.written_bytes};
  }
  return admission;
}

uint64_t FaultPlan::count(OpSet ops) const {
  uint64_t sum = 0;
  for (size_t i = 0; i < kOpCount; ++i) {
    if (ops.Has(static_cast<Op>(i))) sum += counts_[i];
  }
  return sum;
}

}  // namespace cairn
