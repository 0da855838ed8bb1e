#include "sememe/formats/pickle.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <variant>

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

constexpr uint64_t kLongestPickle = uint64_t{16} << 20;  // a state dict's has some 100 bytes a tensor
constexpr int kDeepest = 16;                             // levels of dicts in dicts
constexpr int64_t kMostValues = 1'000'000;               // a pickle may name one value many times
constexpr uint64_t kMostText = uint64_t{64} << 20;       // in all names and strings together, for the same reason
constexpr size_t kLongestName = 64;                      // of a storage
constexpr size_t kMostDimensions = 64;                   // PyTorch's own limit

struct StorageKind {
  std::string_view name;  // in the module torch
  DType dtype;
};

constexpr StorageKind kStorages[] = {
    {"FloatStorage", DType::kF32}, {"DoubleStorage", DType::kF64}, {"HalfStorage", DType::kF16}, {"BFloat16Storage", DType::kBF16},
    {"LongStorage", DType::kI64},  {"IntStorage", DType::kI32},    {"ShortStorage", DType::kI16}, {"CharStorage", DType::kI8},
    {"ByteStorage", DType::kU8},   {"BoolStorage", DType::kBool}};

// Protocol 2 to 5, as Python's pickletools lists them.
enum class Opcode : uint8_t {
  kMark = '(', kStop = '.', kPop = '0', kPopMark = '1', kDup = '2', kFloatText = 'F', kIntText = 'I', kInt = 'J', kInt1 = 'K',
  kLongText = 'L', kInt2 = 'M', kNone = 'N', kPersistentId = 'Q', kReduce = 'R', kUnicode = 'X', kAppend = 'a', kBuild = 'b',
  kGlobal = 'c', kDict = 'd', kEmptyDict = '}', kAppends = 'e', kGet1 = 'h', kGet4 = 'j', kList = 'l', kEmptyList = ']', kPut1 = 'q',
  kPut4 = 'r', kSetItem = 's', kTuple = 't', kEmptyTuple = ')', kSetItems = 'u', kFloat = 'G', kProtocol = 0x80, kNewObject = 0x81,
  kTuple1 = 0x85, kTuple2 = 0x86, kTuple3 = 0x87, kTrue = 0x88, kFalse = 0x89, kLong1 = 0x8a, kLong4 = 0x8b, kUnicode1 = 0x8c,
  kUnicode8 = 0x8d, kNewObjectEx = 0x92, kStackGlobal = 0x93, kMemoize = 0x94, kFrame = 0x95, kInstance = 'i', kObject = 'o',
  kExtension1 = 0x82, kExtension2 = 0x83, kExtension4 = 0x84,
};

/// What the pickle's machine works on. Values name each other freely, also in circles; one place owns them all.
struct Value {
  struct None {};
  struct Mark {};
  struct Global {
    std::string name;  // "module.name"
  };
  struct Sequence {
    std::vector<Value*> items;
  };
  struct Dict {
    std::vector<std::pair<Value*, Value*>> items;
  };
  struct Storage {
    std::string name;
    DType dtype;
    int64_t elements;
  };
  std::variant<None, Mark, bool, int64_t, double, std::string, Global, Sequence, Dict, Storage, StoredTensor> is;
};

class Machine {
 public:
  Machine(std::string_view pickle, std::string where) : pickle_(pickle), where_(std::move(where)) {}

  Value* run() {
    for (;;) {
      const auto opcode = static_cast<Opcode>(number<uint8_t>());
      if (opcode == Opcode::kStop) break;
      step(opcode);
    }
    return pop();
  }

 private:
  [[noreturn]] void reject(std::string_view what) const { fail("{}: byte {}: {}", where_, position_, what); }
  [[noreturn]] void refuse(const std::string& name) const {
    fail("{}: refuses to run code: {}; only dicts, lists, numbers, strings and tensors are read", where_, shown(name));
  }

  std::string_view bytes(uint64_t count) {
    if (count > pickle_.size() - position_) reject("it ends in the middle of a value");
    const std::string_view taken = pickle_.substr(position_, count);
    position_ += count;
    return taken;
  }
  template <class T>
  T number() {
    T value = 0;
    std::memcpy(&value, bytes(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view line() {
    const size_t end = pickle_.find('\n', position_);
    if (end == std::string_view::npos) reject("a line does not end");
    const std::string_view taken = bytes(end - position_);
    ++position_;
    return taken;
  }
  std::string text(uint64_t count) {
    std::string value(bytes(count));
    // Names end in JSON and messages, so that what is no UTF-8 is refused here.
    try {
      static_cast<void>(Json(value).dump());
    } catch (const Json::exception&) {
      reject("a string is not valid UTF-8");
    }
    return value;
  }
  /// Little-endian two's complement of any length; only what fits 64 bits is of use in a state dict.
  int64_t long_integer(uint64_t count) {
    const std::string_view digits = bytes(count);
    if (count > 8) reject("a number does not fit 64 bits");
    uint64_t value = count > 0 && (digits.back() & 0x80) ? ~uint64_t{0} : 0;
    for (uint64_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(digits[i]);
    return static_cast<int64_t>(value);
  }
  int64_t integer_line() {
    std::string_view digits = line();
    if (digits.ends_with('L')) digits.remove_suffix(1);
    int64_t value = 0;
    const bool negative = digits.starts_with('-');
    if (negative) digits.remove_prefix(1);
    if (digits.empty()) reject("a number has no digits");
    for (const char digit : digits)
      if (digit < '0' || digit > '9' || __builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digit - '0', &value))
        reject("a number is none of 63 bits");
    return negative ? -value : value;
  }

  template <class T>
  Value* make(T content) {
    if (static_cast<int64_t>(values_.size()) >= kMostValues) reject("it makes more than a million values");
    values_.push_back({std::move(content)});
    return &values_.back();
  }
  template <class T>
  void push(T content) {
    stack_.push_back(make(std::move(content)));
  }
  Value* top() const {
    if (stack_.empty()) reject("its stack is empty");
    return stack_.back();
  }
  Value* pop() {
    Value* const value = top();
    if (std::holds_alternative<Value::Mark>(value->is)) reject("a mark stands where a value should");
    stack_.pop_back();
    return value;
  }
  std::vector<Value*> pop_to_mark() {
    size_t mark = stack_.size();
    while (mark > 0 && !std::holds_alternative<Value::Mark>(stack_[mark - 1]->is)) --mark;
    if (mark == 0) reject("a mark is missing");
    std::vector<Value*> items(stack_.begin() + static_cast<int64_t>(mark), stack_.end());
    stack_.resize(mark - 1);
    return items;
  }
  template <class T>
  T& as(Value* value, std::string_view what) const {
    T* const content = std::get_if<T>(&value->is);
    if (!content) reject(fmt::format("{} was expected", what));
    return *content;
  }
  Value* remembered(uint64_t key) const {
    const auto found = memo_.find(key);
    if (found == memo_.end()) reject("it asks for a value that it never kept");
    return found->second;
  }

  void set_items(const std::vector<Value*>& items) {
    if (items.size() % 2 != 0) reject("a key has no value");
    auto& dict = as<Value::Dict>(top(), "a dict");
    for (size_t i = 0; i < items.size(); i += 2) dict.items.emplace_back(items[i], items[i + 1]);
  }
  void add_items(const std::vector<Value*>& items) {
    auto& list = as<Value::Sequence>(top(), "a list").items;
    list.insert(list.end(), items.begin(), items.end());
  }
  Value::Dict dict_of(const std::vector<Value*>& items) {
    if (items.size() % 2 != 0) reject("a key has no value");
    Value::Dict dict;
    for (size_t i = 0; i < items.size(); i += 2) dict.items.emplace_back(items[i], items[i + 1]);
    return dict;
  }
  Value::Sequence last(size_t count) {
    Value::Sequence sequence{std::vector<Value*>(count)};
    for (size_t i = count; i-- > 0;) sequence.items[i] = pop();
    return sequence;
  }

  int64_t natural(Value* value) const {
    const int64_t number = as<int64_t>(value, "a whole number");
    if (number < 0) reject(fmt::format("{} stands where a natural number should", number));
    return number;
  }
  std::vector<int64_t> naturals(Value* value) const {
    std::vector<int64_t> numbers;
    const auto& items = as<Value::Sequence>(value, "a tuple of whole numbers").items;
    if (items.size() > kMostDimensions) reject(fmt::format("a tensor has {} dimensions", items.size()));
    for (Value* const item : items) numbers.push_back(natural(item));
    return numbers;
  }

  /// ("storage", torch.FloatStorage, "0", "cpu", 12)
  Value::Storage storage_of(Value* id) const {
    const auto& parts = as<Value::Sequence>(id, "a storage's tuple").items;
    if (parts.size() != 5 || as<std::string>(parts[0], "the word storage") != "storage") reject("a persistent id is no storage's");
    const std::string& type = as<Value::Global>(parts[1], "a type of storage").name;
    if (as<std::string>(parts[2], "a storage's name").size() > kLongestName) reject("a storage's name is too long");
    for (const StorageKind& kind : kStorages)
      if (type == "torch." + std::string(kind.name))
        return {as<std::string>(parts[2], "a storage's name"), kind.dtype, natural(parts[4])};
    reject(fmt::format("storages of type {} cannot be read", shown(type)));
  }

  StoredTensor tensor_of(const std::vector<Value*>& arguments) const {
    if (arguments.size() < 4) reject("a tensor needs a storage, an offset, a size and strides");
    const auto& storage = as<Value::Storage>(arguments[0], "a storage");
    StoredTensor tensor{storage.name, storage.dtype, storage.elements, natural(arguments[1]), naturals(arguments[2]), naturals(arguments[3])};
    if (tensor.shape.size() != tensor.strides.size()) reject("a tensor has not as many strides as dimensions");
    return tensor;
  }

  void reduce() {
    Value* const arguments = pop();
    const std::string& name = as<Value::Global>(pop(), "a global").name;
    const auto& list = as<Value::Sequence>(arguments, "a tuple of arguments").items;
    if (name == "collections.OrderedDict") {
      if (!list.empty()) reject("an OrderedDict with arguments, which only Python 2 wrote");
      push(Value::Dict{});
    } else if (name == "torch._utils._rebuild_tensor_v2") {
      push(tensor_of(list));
    } else if (name == "torch._utils._rebuild_parameter") {
      if (list.empty()) reject("a parameter has no tensor");
      push(StoredTensor(as<StoredTensor>(list[0], "a tensor")));
    } else {
      refuse(name);
    }
  }

  void global(std::string name) {
    const bool known = name == "collections.OrderedDict" || name == "torch._utils._rebuild_tensor_v2" ||
                       name == "torch._utils._rebuild_parameter" || (name.starts_with("torch.") && name.ends_with("Storage") && name.size() <= kLongestName);
    if (!known) refuse(name);
    push(Value::Global{std::move(name)});
  }

  void step(Opcode opcode) {
    switch (opcode) {
      case Opcode::kProtocol: {
        const int protocol = number<uint8_t>();
        if (protocol < 2 || protocol > 5) reject(fmt::format("it is of protocol {}; 2 to 5 can be read", protocol));
        return;
      }
      case Opcode::kFrame: number<uint64_t>(); return;
      case Opcode::kMark: return push(Value::Mark{});
      case Opcode::kPop: top(); return stack_.pop_back();
      case Opcode::kPopMark: pop_to_mark(); return;
      case Opcode::kDup: return stack_.push_back(top());
      case Opcode::kNone: return push(Value::None{});
      case Opcode::kTrue: return push(true);
      case Opcode::kFalse: return push(false);
      case Opcode::kInt: return push(int64_t{number<int32_t>()});
      case Opcode::kInt1: return push(int64_t{number<uint8_t>()});
      case Opcode::kInt2: return push(int64_t{number<uint16_t>()});
      case Opcode::kLong1: return push(long_integer(number<uint8_t>()));
      case Opcode::kLong4: return push(long_integer(number<uint32_t>()));
      case Opcode::kIntText:
      case Opcode::kLongText: return push(integer_line());
      case Opcode::kFloat: return push(std::bit_cast<double>(__builtin_bswap64(number<uint64_t>())));
      case Opcode::kUnicode: return push(text(number<uint32_t>()));
      case Opcode::kUnicode1: return push(text(number<uint8_t>()));
      case Opcode::kUnicode8: return push(text(number<uint64_t>()));
      case Opcode::kEmptyTuple:
      case Opcode::kEmptyList: return push(Value::Sequence{});
      case Opcode::kEmptyDict: return push(Value::Dict{});
      case Opcode::kTuple1: return push(last(1));
      case Opcode::kTuple2: return push(last(2));
      case Opcode::kTuple3: return push(last(3));
      case Opcode::kTuple:
      case Opcode::kList: return push(Value::Sequence{pop_to_mark()});
      case Opcode::kDict: return push(dict_of(pop_to_mark()));
      case Opcode::kAppend: return add_items({pop()});
      case Opcode::kAppends: return add_items(pop_to_mark());
      case Opcode::kSetItem: return set_items(last(2).items);
      case Opcode::kSetItems: return set_items(pop_to_mark());
      case Opcode::kPut1: memo_[number<uint8_t>()] = top(); return;
      case Opcode::kPut4: memo_[number<uint32_t>()] = top(); return;
      case Opcode::kMemoize: memo_.emplace(memo_.size(), top()); return;
      case Opcode::kGet1: return stack_.push_back(remembered(number<uint8_t>()));
      case Opcode::kGet4: return stack_.push_back(remembered(number<uint32_t>()));
      case Opcode::kGlobal: {
        const std::string module(line());
        return global(module + "." + std::string(line()));
      }
      case Opcode::kStackGlobal: {
        const std::string name = as<std::string>(pop(), "a name");
        return global(as<std::string>(pop(), "a module's name") + "." + name);
      }
      case Opcode::kPersistentId: return push(storage_of(pop()));
      case Opcode::kReduce: return reduce();
      case Opcode::kBuild:  // attributes: what a state dict keeps beside its members (_metadata) says nothing about tensors
        as<Value::Dict>(pop(), "a dict of attributes");
        as<Value::Dict>(top(), "a dict");
        return;
      case Opcode::kNewObject:
      case Opcode::kNewObjectEx:
      case Opcode::kInstance:
      case Opcode::kObject: refuse("an object that is made by its class");
      case Opcode::kExtension1:
      case Opcode::kExtension2:
      case Opcode::kExtension4: refuse("an extension of the registry");
      default: reject(fmt::format("the instruction {:#04x} has no place in a state dict", static_cast<int>(opcode)));
    }
  }

  std::string_view pickle_;
  std::string where_;
  uint64_t position_ = 0;
  std::deque<Value> values_;
  std::vector<Value*> stack_;
  std::map<uint64_t, Value*> memo_;
};

/// Sorts what the pickle made into tensors and other values.
class Collector {
 public:
  Collector(std::string where, std::map<std::string, StoredTensor, std::less<>>& tensors, Json& values)
      : where_(std::move(where)), tensors_(tensors), values_(values) {}

  void collect(const Value& dict, const std::string& prefix, int depth) {
    if (depth > kDeepest) fail("{}: dicts in dicts are more than {} deep", where_, kDeepest);
    for (const auto& [key, value] : std::get<Value::Dict>(dict.is).items) {
      const std::string name = prefix + key_text(*key);
      count_text(name.size());
      if (std::holds_alternative<Value::Dict>(value->is)) {
        count();
        collect(*value, name + ".", depth + 1);
      } else if (const auto* const tensor = std::get_if<StoredTensor>(&value->is)) {
        count();
        if (!tensors_.emplace(name, *tensor).second) fail("{}: \"{}\" stands twice in it", where_, shown(name));
      } else {
        values_[name] = plain(*value, depth);
      }
    }
  }

 private:
  void count() {
    if (++counted_ > kMostValues) fail("{}: holds more than a million values", where_);
  }
  void count_text(uint64_t bytes) {
    if ((text_ += bytes) > kMostText) fail("{}: its names and strings have more than {} bytes", where_, kMostText);
  }
  std::string key_text(const Value& key) const {
    if (const auto* const text = std::get_if<std::string>(&key.is)) return *text;
    if (const auto* const number = std::get_if<int64_t>(&key.is)) return std::to_string(*number);
    fail("{}: a key of a dict is neither a string nor a whole number", where_);
  }
  Json plain(const Value& value, int depth) {
    count();
    if (depth > kDeepest) fail("{}: lists in lists are more than {} deep", where_, kDeepest);
    if (const auto* const flag = std::get_if<bool>(&value.is)) return *flag;
    if (const auto* const number = std::get_if<int64_t>(&value.is)) return *number;
    if (const auto* const number = std::get_if<double>(&value.is)) return *number;
    if (const auto* const text = std::get_if<std::string>(&value.is)) {
      count_text(text->size());
      return *text;
    }
    if (const auto* const type = std::get_if<Value::Global>(&value.is)) return type->name;
    if (const auto* const sequence = std::get_if<Value::Sequence>(&value.is)) {
      Json list = Json::array();
      for (const Value* const item : sequence->items) list.push_back(plain(*item, depth + 1));
      return list;
    }
    if (std::holds_alternative<Value::None>(value.is)) return nullptr;
    fail("{}: a list or value of it holds tensors or dicts, which are read as members of dicts only", where_);
  }

  std::string where_;
  std::map<std::string, StoredTensor, std::less<>>& tensors_;
  Json& values_;
  int64_t counted_ = 0;
  uint64_t text_ = 0;
};

/// @throws Error naming `where` unless every element lies in the storage, and none need be there twice
void check_place(const StoredTensor& tensor, const std::string& where) {
  int64_t elements = 1, last = tensor.offset;
  static_cast<void>(tensor_bytes(tensor.shape, tensor.dtype, where));
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    elements *= tensor.shape[i];  // tensor_bytes has seen that this fits
    int64_t reach = 0;
    if (tensor.shape[i] > 0 && (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &reach) || __builtin_add_overflow(last, reach, &last)))
      fail("{}: its strides do not fit 63 bits", where);
  }
  if (elements == 0) return;
  if (last >= tensor.storage_elements)
    fail("{}: its last element is number {} of a storage of {}; was the file copied whole?", where, last, tensor.storage_elements);
  if (elements > tensor.storage_elements)
    fail("{}: has {} elements in a storage of {}; save it with tensor.contiguous()", where, elements, tensor.storage_elements);
}

bool is_contiguous(const StoredTensor& tensor) {
  int64_t wanted = 1;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != wanted) return false;
    wanted *= tensor.shape[i];
  }
  return true;
}

std::vector<std::byte> gather(const StoredTensor& tensor, std::span<const std::byte> storage, int64_t elements) {
  const int64_t bytes = element_bytes(tensor.dtype);
  std::vector<std::byte> rows(elements * bytes);
  std::vector<int64_t> index(tensor.shape.size());
  int64_t from = tensor.offset;
  for (size_t to = 0; to < rows.size(); to += bytes) {
    std::memcpy(rows.data() + to, storage.data() + from * bytes, bytes);
    for (size_t i = tensor.shape.size(); i-- > 0;) {
      from += tensor.strides[i];
      if (++index[i] < tensor.shape[i]) break;
      from -= tensor.strides[i] * index[i];
      index[i] = 0;
    }
  }
  return rows;
}

class PickleWriter {
 public:
  PickleWriter() : pickle_("\x80\x02}(", 4) {}

  void add(const TensorView& tensor, int64_t index, std::string_view storage) {
    text(tensor.name);
    pickle_ += "ctorch._utils\n_rebuild_tensor_v2\n(";
    pickle_ += "(";
    text("storage");
    pickle_ += "ctorch\n" + std::string(storage) + "\n";
    text(std::to_string(index));
    text("cpu");
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) elements *= dimension;
    integer(elements);
    pickle_ += "tQ";
    integer(0);
    tuple(tensor.shape);
    std::vector<int64_t> strides(tensor.shape.size(), 1);
    for (size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(1, tensor.shape[i]);
    tuple(strides);
    pickle_ += '\x89';  // needs no gradient
    pickle_ += "ccollections\nOrderedDict\n)RtR";
  }
  std::string finish() { return pickle_ + "u."; }

 private:
  void text(std::string_view value) {
    pickle_ += 'X';
    const auto size = static_cast<uint32_t>(value.size());
    pickle_.append(reinterpret_cast<const char*>(&size), 4);
    pickle_ += value;
  }
  void integer(int64_t value) {
    pickle_ += "\x8a\x08";
    pickle_.append(reinterpret_cast<const char*>(&value), 8);
  }
  void tuple(const std::vector<int64_t>& values) {
    pickle_ += '(';
    for (const int64_t value : values) integer(value);
    pickle_ += 't';
  }
  std::string pickle_;
};

ZipFile open_archive(const std::filesystem::path& path) {
  const MappedFile file(path);
  if (!file.bytes().empty() && file.bytes()[0] == std::byte{0x80})  // begins with a pickle's protocol
    fail("{}: is a PyTorch checkpoint of before version 1.6, a bare pickle; load it in PyTorch and save it again", path.string());
  return ZipFile(path);
}

}  // namespace

TorchCheckpoint::TorchCheckpoint(const std::filesystem::path& path) : archive_(open_archive(path)) {
  constexpr std::string_view kPickle = "data.pkl";
  const ZipEntry* pickle = nullptr;
  for (const ZipEntry& entry : archive_.entries()) {
    if (entry.name != kPickle && !entry.name.ends_with("/" + std::string(kPickle))) continue;
    if (pickle) fail("{}: holds two pickles, \"{}\" and \"{}\"", path.string(), shown(pickle->name), shown(entry.name));
    pickle = &entry;
  }
  if (!pickle) fail("{}: is a zip archive without a data.pkl; is it a PyTorch checkpoint?", path.string());
  prefix_ = pickle->name.substr(0, pickle->name.size() - kPickle.size());
  if (pickle->size > kLongestPickle) fail("{}: its data.pkl has {} bytes, more than {}", path.string(), pickle->size, kLongestPickle);
  if (const ZipEntry* const order = archive_.find(prefix_ + "byteorder")) {
    const ZipContent content = archive_.read(*order);
    const std::string_view text(reinterpret_cast<const char*>(content.bytes.data()), content.bytes.size());
    if (text != "little") fail("{}: its bytes are in the order \"{}\"; only little can be read", path.string(), shown(text));
  }
  const std::string where = path.string() + ": data.pkl";
  const ZipContent content = archive_.read(*pickle);
  Machine machine({reinterpret_cast<const char*>(content.bytes.data()), content.bytes.size()}, where);
  const Value* const whole = machine.run();
  if (!std::holds_alternative<Value::Dict>(whole->is)) fail("{}: is no dict of tensors", where);
  Collector(where, tensors_, values_).collect(*whole, "", 0);
  for (const auto& [name, tensor] : tensors_) check_place(tensor, fmt::format("{}: tensor \"{}\"", path.string(), shown(name)));
}

std::vector<std::string> TorchCheckpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, unused] : tensors_) names.push_back(name);
  return names;
}

std::span<const std::byte> TorchCheckpoint::storage(const StoredTensor& tensor, const std::string& where) {
  const std::string name = prefix_ + "data/" + tensor.storage;
  auto found = storages_.find(name);
  if (found == storages_.end()) {
    const ZipEntry* const entry = archive_.find(name);
    if (!entry) fail("{}: its storage \"{}\" is missing; was the file copied whole?", where, shown(name));
    found = storages_.emplace(name, archive_.read(*entry)).first;
  }
  const std::span<const std::byte> bytes = found->second.bytes;
  const int64_t storage_shape[] = {tensor.storage_elements};
  if (static_cast<uint64_t>(tensor_bytes(storage_shape, tensor.dtype, where)) > bytes.size())
    fail("{}: its storage holds {} bytes, too few for {} elements", where, bytes.size(), tensor.storage_elements);
  return bytes;
}

const TensorView& TorchCheckpoint::tensor(std::string_view name) {
  const auto ready = views_.find(name);
  if (ready != views_.end()) return ready->second;
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    std::string held;
    for (const auto& [each, unused] : tensors_)
      if (held.size() < 400) held += (held.empty() ? "" : ", ") + shown(each);
    fail("{}: no tensor \"{}\"; it holds {}", path().string(), shown(name), held.empty() ? "none" : held);
  }
  const StoredTensor& stored = found->second;
  const std::string where = fmt::format("{}: tensor \"{}\"", path().string(), shown(name));
  const std::span<const std::byte> bytes = storage(stored, where);
  const int64_t needed = tensor_bytes(stored.shape, stored.dtype, where), size = element_bytes(stored.dtype);
  std::span<const std::byte> data;
  if (needed > 0 && is_contiguous(stored)) {
    data = bytes.subspan(stored.offset * size, needed);
  } else if (needed > 0) {
    gathered_.push_back(gather(stored, bytes, needed / size));
    data = gathered_.back();
  }
  return views_.emplace(name, TensorView{std::string(name), stored.dtype, stored.shape, data}).first->second;
}

void write_torch_checkpoint(const std::filesystem::path& path, std::span<const TensorView> tensors) {
  PickleWriter pickle;
  std::map<std::string, bool> names;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorView& tensor = tensors[i];
    const std::string where = fmt::format("{}: tensor \"{}\"", path.string(), shown(tensor.name));
    if (!names.emplace(tensor.name, true).second) fail("{}: the name stands twice", where);
    if (tensor.data.size() != static_cast<uint64_t>(tensor_bytes(tensor.shape, tensor.dtype, where)))
      fail("{}: has {} bytes, which do not match its shape", where, tensor.data.size());
    const StorageKind* kind = nullptr;
    for (const StorageKind& each : kStorages)
      if (each.dtype == tensor.dtype) kind = &each;
    if (!kind) fail("{}: PyTorch has no storage of type {}", where, dtype_name(tensor.dtype));
    pickle.add(tensor, static_cast<int64_t>(i), kind->name);
  }
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); };
  ZipWriter archive(path);
  archive.add("archive/data.pkl", bytes(pickle.finish()));
  archive.add("archive/byteorder", bytes("little"));
  for (size_t i = 0; i < tensors.size(); ++i) archive.add(fmt::format("archive/data/{}", i), tensors[i].data);
  archive.add("archive/version", bytes("3\n"));
  archive.commit();
}

}  // namespace sememe
