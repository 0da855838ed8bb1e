#include "sememe/base/interrupt.h"

#include <csignal>

namespace sememe {
namespace {

volatile std::sig_atomic_t signal_seen = 0;

void remember(int signal_number) {
  note_interrupt();
  std::signal(signal_number, SIG_DFL);
}

}  // namespace

void note_interrupt() { signal_seen = 1; }

void catch_interrupts() {
  std::signal(SIGINT, remember);
  std::signal(SIGTERM, remember);
}

bool interrupted() { return signal_seen != 0; }

}  // namespace sememe
