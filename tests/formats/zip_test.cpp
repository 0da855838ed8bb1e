#include "sememe/formats/zip.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <zlib.h>

#include <cstring>
#include <map>

#include "tests/formats/error_text.h"
#include "tests/formats/scratch_path.h"

namespace sememe {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }
std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::string archive(const std::vector<std::pair<std::string, std::string>>& entries, uint64_t wide_from = 0xFFFFFFFF) {
  const ScratchPath scratch("written.zip");
  ZipWriter writer(scratch.path(), wide_from);
  for (const auto& [name, content] : entries) writer.add(name, bytes_of(content));
  writer.commit();
  return read_file(scratch.path());
}

std::string deflate_raw(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

template <class T>
void put(std::string& bytes, size_t place, T value) {
  std::memcpy(bytes.data() + place, &value, sizeof value);
}

/// An archive of one entry whose stored bytes are the deflated `text`, said to be `said_bytes` long.
std::string deflated_archive(const std::string& text, uint32_t said_bytes) {
  std::string bytes = archive({{"e", deflate_raw(text)}});
  const size_t directory = bytes.find("PK\1\2");
  put<uint16_t>(bytes, directory + 10, 8);
  put<uint32_t>(bytes, directory + 16, static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(text.data()), text.size())));
  put<uint32_t>(bytes, directory + 24, said_bytes);
  return bytes;
}

/// What opening the archive and reading every entry says.
std::string error_of(const std::string& bytes) {
  const ScratchPath scratch("bad.zip");
  put_file(scratch.path(), bytes);
  const std::string message = error_from([&] {
    const ZipFile file(scratch.path());
    for (const ZipEntry& entry : file.entries()) static_cast<void>(file.read(entry));
  });
  if (message != "no error") EXPECT_TRUE(contains(message, {"bad.zip"}));
  return message;
}

std::string two() { return archive({{"first", "some content"}, {"second", "other"}}); }

RC_GTEST_PROP(Zip, WhatIsWrittenIsReadBack, (std::map<std::string, std::string> content)) {
  const uint64_t wide_from = *rc::gen::element<uint64_t>(0, 3, 100, 0xFFFFFFFF);
  const ScratchPath scratch("x.zip");
  put_file(scratch.path(), archive({content.begin(), content.end()}, wide_from));
  const ZipFile file(scratch.path());
  RC_ASSERT(file.entries().size() == content.size());
  for (const auto& [name, text] : content) {
    const ZipEntry* const entry = file.find(name);
    RC_ASSERT(entry != nullptr);
    RC_ASSERT(text_of(file.read(*entry).bytes) == text);
    RC_ASSERT((entry->data.data() - file.entries()[0].data.data()) % 64 == 0);
  }
}

TEST(Zip, DeflatedEntriesAreInflated) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += std::to_string(i * i);
  const ScratchPath scratch("x.zip");
  put_file(scratch.path(), deflated_archive(text, static_cast<uint32_t>(text.size())));
  const ZipFile file(scratch.path());
  EXPECT_EQ(text_of(file.read(*file.find("e")).bytes), text);
}
TEST(Zip, AnEmptyDeflatedEntryIsRead) { EXPECT_EQ(error_of(deflated_archive("", 0)), "no error"); }
TEST(Zip, AnEmptyArchiveIsRead) { EXPECT_EQ(error_of(archive({})), "no error"); }
TEST(Zip, ACommentAfterTheEndIsAllowed) {
  std::string bytes = two() + "comment";
  put<uint16_t>(bytes, bytes.size() - 9, 7);
  EXPECT_EQ(error_of(bytes), "no error");
}

TEST(Zip, OtherFilesAreErrors) {
  EXPECT_TRUE(contains(error_of(""), {"too few"}));
  EXPECT_TRUE(contains(error_of(std::string(1000, 'x')), {"not a zip archive"}));
}
TEST(Zip, EveryTruncationIsAnError) {
  const std::string whole = two();
  for (size_t length = 0; length < whole.size(); ++length) EXPECT_NE(error_of(whole.substr(0, length)), "no error") << length;
}
TEST(Zip, MoreThanSaidIsAnError) { EXPECT_TRUE(contains(error_of(deflated_archive(std::string(100, 'a'), 99)), {"\"e\"", "99"})); }
TEST(Zip, LessThanSaidIsAnError) { EXPECT_TRUE(contains(error_of(deflated_archive(std::string(100, 'a'), 101)), {"\"e\"", "101"})); }
TEST(Zip, ASizeThatDeflateCannotReachIsRefusedBeforeMemoryIsTaken) {
  EXPECT_TRUE(contains(error_of(deflated_archive("abc", 0xFFFFFFF0)), {"\"e\"", "cannot inflate"}));
}
TEST(Zip, ABombIsRefused) {
  EXPECT_TRUE(contains(error_of(deflated_archive(std::string(80 << 20, '\0'), 80 << 20)), {"zip bomb"}));
}
TEST(Zip, ADamagedByteIsAnError) {
  std::string bytes = two();
  bytes[bytes.find("some content")] ^= 1;
  EXPECT_TRUE(contains(error_of(bytes), {"\"first\"", "CRC-32"}));
}
TEST(Zip, EntriesThatOverlapAreAnError) {
  std::string bytes = two();
  const size_t first = bytes.find("PK\1\2");
  put<uint32_t>(bytes, first + 20, 60);  // the first entry reaches into the second
  put<uint32_t>(bytes, first + 24, 60);
  EXPECT_TRUE(contains(error_of(bytes), {"\"second\"", "overlaps"}));
}
TEST(Zip, AnEntryListedTwiceIsAnError) {
  std::string bytes = archive({{"same", "a"}, {"sama", "a"}});
  for (size_t place = bytes.find("sama"); place != std::string::npos; place = bytes.find("sama")) bytes[place + 3] = 'e';
  EXPECT_TRUE(contains(error_of(bytes), {"\"same\"", "twice"}));
  EXPECT_TRUE(contains(error_from([] { archive({{"a", ""}, {"a", ""}}); }), {"\"a\"", "twice"}));
}
TEST(Zip, AnotherNameAtThePlaceIsAnError) {
  std::string bytes = two();
  bytes[bytes.find("first")] = 'F';
  EXPECT_TRUE(contains(error_of(bytes), {"called otherwise"}));
}
TEST(Zip, EncryptedAndOtherwiseCompressedEntriesAreRefused) {
  std::string bytes = two();
  bytes[bytes.find("PK\1\2") + 8] = 1;
  EXPECT_TRUE(contains(error_of(bytes), {"\"first\"", "encrypted"}));
  bytes = two();
  bytes[bytes.find("PK\1\2") + 10] = 12;
  EXPECT_TRUE(contains(error_of(bytes), {"\"first\"", "method 12"}));
}

}  // namespace
}  // namespace sememe
