// A C interface to toml++ (https://marzer.github.io/tomlplusplus/), the TOML parser of Debian's libtomlplusplus-dev.
// Swift sees this header only; no exception of C++ leaves it.

#ifndef CTOMLPLUSPLUS_H
#define CTOMLPLUSPLUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What a node of a TOML document is.
typedef enum {
    CTOML_TABLE,
    CTOML_ARRAY,
    CTOML_STRING,
    CTOML_INTEGER,
    CTOML_FLOAT,
    CTOML_BOOLEAN,
    CTOML_DATE,
} ctoml_kind;

/// UTF-8 that belongs to the document. It may contain NUL characters and has none at its end.
typedef struct {
    const char *bytes;
    size_t count;
} ctoml_text;

/// A table, an array or a value.
typedef struct {
    ctoml_kind kind;
    /// The key in the table around the node; empty for the document's own table and for elements of an array.
    ctoml_text key;
    /// The value of a string; a date or a time as TOML writes it; else empty.
    ctoml_text text;
    int64_t integer;
    double number;
    bool boolean;
    /// The place of the key, of a header's name, or of an element of an array; both count from 1, columns in
    /// characters.
    uint32_t line, column;
    /// How many nodes a table or an array holds. They and all that they hold follow it in the document's nodes.
    size_t children;
} ctoml_node;

typedef struct ctoml_document ctoml_document;

/// Parses a TOML document. Returns NULL where there is no memory; the caller frees the document with `ctoml_free`.
ctoml_document *ctoml_parse(const char *bytes, size_t count);

/// The nodes of the document, each before those that it holds, the document's own table first; none after a fault.
const ctoml_node *ctoml_nodes(const ctoml_document *document, size_t *count);

/// Why the text is not TOML; empty where it is.
ctoml_text ctoml_fault(const ctoml_document *document);

/// The place of the fault, counted from 1; 0 where the parser names none.
void ctoml_fault_place(const ctoml_document *document, uint32_t *line, uint32_t *column);

void ctoml_free(ctoml_document *document);

#ifdef __cplusplus
}
#endif

#endif
