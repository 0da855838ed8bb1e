#include "sememe/data/markup.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <iterator>
#include <utility>

namespace sememe {
namespace {

constexpr size_t kWrapped = 45;  // a line at least this long was cut by a margin, not by its writer

constexpr size_t kShortestHeading = 12;

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_letter(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) >= 0x80;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// Calls `take` with each line, without its end.
template <class Take>
void each_line(std::string_view text, Take take) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    take(text.substr(at, end - at));
    at = end + 1;
  }
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

void append_code_point(std::string& out, uint32_t code) {
  if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) code = 0xFFFD;
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
  } else if (code < 0x10000) {
    out += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3F)),
            static_cast<char>(0x80 | (code & 0x3F))};
  } else {
    out += {static_cast<char>(0xF0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3F)),
            static_cast<char>(0x80 | (code >> 6 & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
  }
}

/// Decodes the entity at the front of `text` into `out`. @return its bytes, 0 if it is none
size_t decode_entity(std::string_view text, std::string& out) {
  static constexpr std::pair<std::string_view, std::string_view> kNamed[] = {
      {"amp", "&"},    {"lt", "<"},     {"gt", ">"},    {"quot", "\""}, {"apos", "'"},  {"nbsp", " "},
      {"mdash", "—"},  {"ndash", "–"},  {"lsquo", "‘"}, {"rsquo", "’"}, {"ldquo", "“"}, {"rdquo", "”"},
      {"hellip", "…"}, {"eacute", "é"}, {"copy", "©"},  {"middot", "·"}};
  const size_t end = text.substr(0, 12).find(';');
  if (end == std::string_view::npos || end < 2) return 0;
  std::string_view name = text.substr(1, end - 1);
  if (name[0] == '#') {
    const bool hex = name.size() > 1 && (name[1] == 'x' || name[1] == 'X');
    name.remove_prefix(hex ? 2 : 1);
    uint32_t code = 0;
    const auto [stop, error] = std::from_chars(name.begin(), name.end(), code, hex ? 16 : 10);
    if (error != std::errc() || stop != name.end()) return 0;
    append_code_point(out, code);
    return end + 1;
  }
  for (const auto& [known, value] : kNamed) {
    if (name != known) continue;
    out += value;
    return end + 1;
  }
  return 0;
}

bool is_block(std::string_view tag) {
  static constexpr std::string_view kBlocks[] = {
      "p",  "div", "li", "ul", "ol", "dl", "dt",    "dd",         "br",      "tr",    "td",   "th",     "h1",
      "h2", "h3",  "h4", "h5", "h6", "hr", "table", "blockquote", "section", "title", "body", "article"};
  return std::find(std::begin(kBlocks), std::end(kBlocks), tag) != std::end(kBlocks);
}

bool is_dropped(std::string_view tag) {
  return tag == "script" || tag == "style" || tag == "head" || tag == "pre" || tag == "nav" || tag == "footer";
}

/// A list item's mark: "-", "*", "1.", "2:", "(a)", "n 1:".
bool begins_item(std::string_view line) {
  if (line.starts_with("- ") || line.starts_with("* ") || line.starts_with("--")) return true;
  if (line.starts_with("(") && line.size() > 2 && line[2] == ')') return true;
  for (const std::string_view part_of_speech : {"n ", "v ", "adj ", "adv "})
    if (line.starts_with(part_of_speech)) line.remove_prefix(part_of_speech.size());
  size_t digits = 0;
  while (digits < line.size() && digits < 3 && std::isdigit(static_cast<unsigned char>(line[digits]))) ++digits;
  return digits > 0 && line.size() > digits + 1 && (line[digits] == '.' || line[digits] == ':') &&
         line[digits + 1] == ' ';
}

bool is_source_mark(std::string_view line) {
  return line.size() <= 30 && line.starts_with('[') && line.find(']') == line.size() - 1;
}

std::string collapse_spaces(std::string_view line) {
  std::string result;
  for (size_t at = 0; at < line.size(); ++at) {
    const bool no_break_space = line.substr(at).starts_with("\u00a0");
    if (!no_break_space && !is_space(line[at]))
      result += line[at];
    else if (!result.empty() && result.back() != ' ')
      result += ' ';
    if (no_break_space) ++at;  // its second byte
  }
  if (result.ends_with(' ')) result.pop_back();
  return result;
}

}  // namespace

std::string html_to_text(std::string_view html) {
  std::string text;
  for (size_t at = 0; at < html.size();) {
    if (html[at] == '&') {
      if (const size_t bytes = decode_entity(html.substr(at), text)) {
        at += bytes;
        continue;
      }
    }
    if (html[at] != '<') {
      text += is_space(html[at]) ? ' ' : html[at];
      ++at;
      continue;
    }
    const bool comment = html.substr(at).starts_with("<!--");
    const size_t end = comment ? html.find("-->", at) : html.find('>', at);
    if (end == std::string_view::npos) break;  // a tag cut off: what follows is no text
    size_t name_end = at + 1;
    while (name_end < end && (std::isalnum(static_cast<unsigned char>(html[name_end])) || html[name_end] == '/'))
      ++name_end;
    std::string tag = lower(html.substr(at + 1, name_end - at - 1));
    at = end + (comment ? 3 : 1);
    const bool opens = !tag.starts_with('/');
    std::erase(tag, '/');
    if (!comment && opens && is_dropped(tag)) {
      const size_t close = html.find("</" + tag, at);
      at = close == std::string_view::npos ? html.size() : close;
    }
    if (is_block(tag)) text += "\n\n";
  }
  return text;
}

std::string pod_to_text(std::string_view pod) {
  std::string text;
  bool inside = false;
  each_line(pod, [&](std::string_view line) {
    if (line.starts_with("=")) {
      const size_t space = line.find(' ');
      const std::string_view command = line.substr(0, space);
      inside = command != "=cut" && command != "=begin" && command != "=for";
      const bool heading = command.starts_with("=head") || command == "=item";
      text += "\n";
      if (!heading || space == std::string_view::npos) return;
      line = line.substr(space + 1);
    } else if (!inside || line.starts_with(" ") || line.starts_with("\t")) {
      text += "\n";
      return;
    }
    size_t open_codes = 0;
    for (size_t i = 0; i < line.size(); ++i) {
      if (line.substr(i).starts_with("X<")) {  // an index entry, not shown
        i = std::min(line.find('>', i), line.size());
        continue;
      }
      if (i + 1 < line.size() && line[i + 1] == '<' && line[i] >= 'A' && line[i] <= 'Z') {
        ++open_codes;
        ++i;
        while (i + 1 < line.size() && line[i + 1] == '<') ++i;
      } else if (line[i] == '>' && open_codes > 0) {
        --open_codes;
        while (i + 1 < line.size() && line[i + 1] == '>') ++i;
      } else {
        text += line[i];
      }
    }
    text += "\n";
  });
  return text;
}

std::string rst_to_text(std::string_view rst) {
  std::string text;
  each_line(rst, [&](std::string_view line) {
    const std::string_view content = trimmed(line);
    const bool adornment = content.size() > 2 &&
                           content.find_first_not_of(content.substr(0, 1)) == std::string_view::npos &&
                           std::ispunct(static_cast<unsigned char>(content[0]));
    // Code and options are indented; so are some paragraphs, which is a loss that costs less than the code would.
    if (content.empty() || adornment || content.starts_with("..") || content.starts_with(":") || is_space(line[0])) {
      text += "\n";
      return;
    }
    for (size_t i = 0; i < content.size(); ++i) {
      if (content[i] == '`') continue;
      if (content[i] == ':') {
        size_t end = i + 1;
        while (end < content.size() && (std::isalpha(static_cast<unsigned char>(content[end])) || content[end] == '-'))
          ++end;
        if (end + 1 < content.size() && end > i + 1 && content[end] == ':' && content[end + 1] == '`') {
          i = end;
          continue;
        }
      }
      text += content[i];
    }
    text += "\n";
  });
  return text;
}

std::string unwrap(std::string_view text) {
  std::string result;
  size_t previous = 0;  // bytes of the line before, 0 after a break
  int breaks = 2;
  each_line(text, [&](std::string_view raw) {
    const std::string line = collapse_spaces(trimmed(raw));
    if (line.empty() || is_source_mark(line)) {
      if (breaks < 2 && line.empty()) result += breaks++ == 0 ? "\n\n" : "\n", breaks = 2;
      previous = 0;
      return;
    }
    if (breaks < 2) {
      const bool joins = previous >= kWrapped && !begins_item(line);
      result += joins ? ' ' : '\n';
    }
    result += line;
    // The wrapped width counts the indentation, which was cut off above.
    const size_t indented = raw.size();
    previous = indented;
    breaks = 0;
  });
  while (!result.empty() && is_space(result.back())) result.pop_back();
  return result;
}

std::string keep_prose(std::string_view text) {
  std::string result;
  each_line(text, [&](std::string_view line) {
    const auto letters = std::count_if(line.begin(), line.end(), is_letter);
    const auto spaces = std::count(line.begin(), line.end(), ' ');
    // What the tags leave of menus and cross-references: a few words that end no sentence.
    const bool fragment = line.size() < kShortestHeading && !line.empty() &&
                          std::string_view(".!?").find(line.back()) == std::string_view::npos;
    if (fragment) return;
    if (line.empty() || letters * 10 >= (static_cast<long>(line.size()) - spaces) * 7)
      result += std::string(line) + "\n";
  });
  return result;
}

}  // namespace sememe
