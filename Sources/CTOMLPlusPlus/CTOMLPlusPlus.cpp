#include "CTOMLPlusPlus.h"

#include <deque>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

// An assertion of the parser that fails becomes a fault instead of the end of the process. The one of parse_key() is
// left out: the parser reports the same fault, with its place, right after it. It fails at a header such as [[[name]]].
#undef NDEBUG
static inline void ctoml_assert(bool holds, std::string_view condition) {
    if (!holds && condition != "is_bare_key_character(*cp) || is_string_delimiter(*cp)")
        throw std::runtime_error("the parser failed at " + std::string(condition));
}
#define TOML_ASSERT(condition) ctoml_assert(static_cast<bool>(condition), #condition)
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 1
#if __has_include(<toml++/toml.hpp>)
#include <toml++/toml.hpp>
#else
#include <toml++/toml.h>
#endif

/// Tables in tables deeper than this are a fault. Dotted keys and headers can nest them without end, and recursion
/// can't follow.
static constexpr size_t depth_limit = 100;

struct ctoml_document {
    std::vector<ctoml_node> nodes;
    /// What the nodes' texts point to, beside the tree. A deque doesn't move what it holds.
    std::unique_ptr<toml::table> tree;
    std::deque<std::string> dates;
    std::string fault;
    toml::source_position place{};

    void add(const toml::node &value, const toml::key *key, size_t depth) {
        if (depth > depth_limit)
            throw toml::parse_error("tables are nested more than 100 deep", value.source().begin);
        const auto position = (key ? key->source() : value.source()).begin;
        const std::string_view name = key ? key->str() : std::string_view();
        ctoml_node node{};
        node.key = {name.data(), name.size()};
        node.line = position.line;
        node.column = position.column;
        const auto at = nodes.size();
        nodes.push_back(node);
        if (const auto table = value.as_table()) {
            nodes[at].kind = CTOML_TABLE;
            nodes[at].children = table->size();
            for (auto &&[member_key, member] : *table) add(member, &member_key, depth + 1);
        } else if (const auto array = value.as_array()) {
            nodes[at].kind = CTOML_ARRAY;
            nodes[at].children = array->size();
            for (auto &&element : *array) add(element, nullptr, depth + 1);
        } else if (const auto string = value.as_string()) {
            nodes[at].kind = CTOML_STRING;
            nodes[at].text = {(*string)->data(), (*string)->size()};
        } else if (const auto integer = value.as_integer()) {
            nodes[at].kind = CTOML_INTEGER;
            nodes[at].integer = integer->get();
        } else if (const auto number = value.as_floating_point()) {
            nodes[at].kind = CTOML_FLOAT;
            nodes[at].number = number->get();
        } else if (const auto boolean = value.as_boolean()) {
            nodes[at].kind = CTOML_BOOLEAN;
            nodes[at].boolean = boolean->get();
        } else {
            nodes[at].kind = CTOML_DATE;
            std::ostringstream stream;
            value.visit([&](auto &&date) {
                if constexpr (toml::is_chronological<decltype(date)>) stream << date.get();
            });
            const auto &text = dates.emplace_back(stream.str());
            nodes[at].text = {text.data(), text.size()};
        }
    }
};

extern "C" ctoml_document *ctoml_parse(const char *bytes, size_t count) {
    auto document = new (std::nothrow) ctoml_document();
    if (!document) return nullptr;
    try {
        try {
            document->tree = std::make_unique<toml::table>(toml::parse(std::string_view(bytes, count)));
            document->add(*document->tree, nullptr, 0);
            return document;
        } catch (const toml::parse_error &error) {
            document->place = error.source().begin;
            document->fault = error.description();
        } catch (const std::exception &error) {
            document->fault = error.what();
        }
        document->nodes.clear();
        // The destructor of a tree of any depth recurses as deep: memory is lost, and the process isn't.
        static_cast<void>(document->tree.release());
        return document;
    } catch (...) {
        delete document;
        return nullptr;
    }
}

extern "C" const ctoml_node *ctoml_nodes(const ctoml_document *document, size_t *count) {
    *count = document->nodes.size();
    return document->nodes.data();
}

extern "C" ctoml_text ctoml_fault(const ctoml_document *document) {
    return {document->fault.data(), document->fault.size()};
}

extern "C" void ctoml_fault_place(const ctoml_document *document, uint32_t *line, uint32_t *column) {
    *line = document->place.line;
    *column = document->place.column;
}

extern "C" void ctoml_free(ctoml_document *document) { delete document; }
