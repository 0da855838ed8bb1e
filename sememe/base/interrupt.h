#pragma once
// SIGINT and SIGTERM become a flag that long work looks at between steps, so that it can save before it stops.

namespace sememe {

/// Installs the handler; a second signal ends the process at once.
void catch_interrupts();

/// What the handler does; for handlers that do more.
void note_interrupt();

/// True once SIGINT or SIGTERM has come.
bool interrupted();

}  // namespace sememe
