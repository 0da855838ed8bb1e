#pragma once
// Prose out of marked-up text, by small rules that keep sentences and drop the rest; no layout is kept.

#include <string>
#include <string_view>

namespace sememe {

/// Text between the tags, entities decoded; scripts, styles and preformatted text dropped, a blank line between blocks.
std::string html_to_text(std::string_view html);

/// Paragraphs and headings of Perl's documentation; formatting codes opened, verbatim blocks dropped.
std::string pod_to_text(std::string_view pod);

/// Paragraphs and headings of reStructuredText; directives, adornments and indented blocks dropped, roles opened.
std::string rst_to_text(std::string_view rst);

/// Joins lines that were wrapped, so that paragraphs flow. A line goes on with the next one if it has at least 45 bytes
/// and the next neither is blank nor begins a list item. Runs of white space become one space, of blank lines one;
/// lines that hold only a short bracketed mark of the source (such as "[1913 Webster]") are dropped.
std::string unwrap(std::string_view text);

/// Without the paragraphs in which fewer than 7 of 10 bytes are letters of any script (tables, code, rulers); white
/// space does not count. Nor does it keep lines of fewer than 12 bytes that end no sentence (what is left of menus).
std::string keep_prose(std::string_view text);

}  // namespace sememe
