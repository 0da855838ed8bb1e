#pragma once
// The processes of one run that mpirun started, and what they exchange. A process started without mpirun is one rank, for which every
// exchange is nothing.

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace sememe {

/// A group of ranks. Every exchange is collective: each rank of the group calls it, in the same order. An exchange in which a rank is
/// missing because it has ended ends the process with the farewell() line.
class Ranks {
 public:
  /// A group of this process alone.
  Ranks() = default;
  /// All ranks of this run. The first call starts MPI if mpirun started the process.
  /// @throws Error if mpirun started it and the program was built without MPI
  static const Ranks& of_run();

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool alone() const { return size_ == 1; }
  bool first() const { return rank_ == 0; }
  /// How many of the run's ranks are on this machine and not bound to cores of their own; 1 for a group.
  int on_this_machine() const { return on_this_machine_; }

  /// The ranks that give the same colour, in their present order.
  Ranks group(int colour) const;

  /// Elementwise over all ranks, in place; every rank ends with the same bits.
  void sum(std::span<float> values) const;
  void sum(std::span<double> values) const;
  void sum(std::span<int64_t> values) const;
  void largest(std::span<int64_t> values) const;

  /// Of each row of k keys in descending order, the k largest of all ranks, in descending order. 0 stands for no key.
  /// @param keys [rows, k]
  void largest_keys(std::span<uint64_t> keys, int64_t k) const;

  /// What the first rank has.
  void copy_from_first(std::span<double> values) const;

  /// To the first rank: `receive` is called there with what each rank has, in order of rank, the first rank's own among them.
  /// The blocks may differ in size.
  template <class Receive>
  void gather(std::span<const std::byte> own, const Receive& receive) const {
    if (!first()) return send_to_first(own);
    receive(own);
    for (int from = 1; from < size_; ++from) {
      const std::unique_ptr<Block> block = receive_from(from);
      receive(std::span<const std::byte>(block->bytes.get(), block->size));
    }
  }

  /// Returns when all ranks have come here.
  void meet() const;

  /// Seconds that this process has spent in exchanges, waiting included, and the bytes that it gave into sums and keys.
  struct Spent {
    double seconds = 0.0;
    int64_t exchanges = 0, bytes = 0;
  };
  static Spent spent();

 private:
  struct Block {
    std::unique_ptr<std::byte[]> bytes;
    size_t size;
  };
  struct Communicator;
  void send_to_first(std::span<const std::byte> own) const;
  std::unique_ptr<Block> receive_from(int rank) const;

  std::shared_ptr<const Communicator> communicator_;  // empty where alone
  int rank_ = 0, size_ = 1, on_this_machine_ = 1;
};

/// The line that a rank says when the run ends because another rank has ended, e.g. where the last checkpoint is. At most 500 bytes.
void set_farewell(const std::string& line);

/// Called once, when the program is done: ends MPI, or where `status` is not 0, all ranks with it. @return status
int leave_ranks(int status);

}  // namespace sememe
