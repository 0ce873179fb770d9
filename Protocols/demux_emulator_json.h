// A small reader and writer for the emulator protocol's JSON, for programs in C that bring no JSON library.
//
// It allocates nothing, recurses at most DMX_JSON_DEPTH deep and never reads beyond the text it was given. A value is a
// piece of that text: check the whole packet once with dmx_json_parse, then take members out of it. Header only.
#ifndef DEMUX_EMULATOR_JSON_H
#define DEMUX_EMULATOR_JSON_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

// Deeper nesting is refused; the protocol itself needs three levels.
enum { DMX_JSON_DEPTH = 16 };

// A checked JSON value inside a text that outlives it; `at` is NULL when there is none.
typedef struct dmx_json {
    const char *at;
    size_t length;
} dmx_json;

// MARK: reading

static inline const char *dmx_json_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

static inline int dmx_json_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// Reads the four digits of a \u escape; -1 when they are not there.
static inline int32_t dmx_json_unit(const char *at, const char *end) {
    int32_t unit = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int digit = dmx_json_digit(at[i]);
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

// Length of the UTF-8 sequence at `at`, 1 to 4; 0 when it is not one (overlong forms and surrogates included).
static inline size_t dmx_json_utf8(const char *at, const char *end) {
    unsigned char c = (unsigned char)*at;
    size_t length = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (length == 0 || (size_t)(end - at) < length) return 0;
    for (size_t i = 1; i < length; i++)
        if (((unsigned char)at[i] & 0xc0) != 0x80) return 0;
    unsigned char second = length > 1 ? (unsigned char)at[1] : 0;
    if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f) || (c == 0xf0 && second < 0x90) || (c == 0xf4 && second > 0x8f))
        return 0;
    return length;
}

// Walks over a string and, when `out` is given, decodes it there (NUL-terminated). Returns what follows the string, or NULL
// when it is broken, holds a NUL, or does not fit.
static inline const char *dmx_json_walk_string(const char *at, const char *end, char *out, size_t capacity) {
    size_t used = 0;
    if (at >= end || *at != '"') return NULL;
    at++;
    while (at < end && *at != '"') {
        char piece[4];
        size_t length = 0;
        if (*at == '\\') {
            if (end - at < 2) return NULL;
            char kind = at[1];
            at += 2;
            static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
            const char *name = kind ? strchr(names, kind) : NULL;
            if (name) {
                piece[length++] = meanings[name - names];
            } else if (kind == 'u') {
                int32_t code = dmx_json_unit(at, end);
                if (code < 0) return NULL;
                at += 4;
                if (code >= 0xd800 && code <= 0xdbff) {
                    if (end - at < 6 || at[0] != '\\' || at[1] != 'u') return NULL;
                    int32_t low = dmx_json_unit(at + 2, end);
                    if (low < 0xdc00 || low > 0xdfff) return NULL;
                    at += 6;
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                } else if (code >= 0xdc00 && code <= 0xdfff) {
                    return NULL;
                }
                if (code < 0x80) {
                    piece[length++] = (char)code;
                } else if (code < 0x800) {
                    piece[length++] = (char)(0xc0 | code >> 6);
                } else if (code < 0x10000) {
                    piece[length++] = (char)(0xe0 | code >> 12);
                    piece[length++] = (char)(0x80 | (code >> 6 & 0x3f));
                } else {
                    piece[length++] = (char)(0xf0 | code >> 18);
                    piece[length++] = (char)(0x80 | (code >> 12 & 0x3f));
                    piece[length++] = (char)(0x80 | (code >> 6 & 0x3f));
                }
                if (code >= 0x80) piece[length++] = (char)(0x80 | (code & 0x3f));
            } else {
                return NULL;
            }
        } else {
            if ((unsigned char)*at < 0x20) return NULL;
            length = dmx_json_utf8(at, end);
            if (length == 0) return NULL;
            memcpy(piece, at, length);
            at += length;
        }
        if (!out) continue;
        if (piece[0] == '\0' || used + length >= capacity) return NULL;
        memcpy(out + used, piece, length);
        used += length;
    }
    if (at >= end) return NULL;
    if (out) {
        if (used >= capacity) return NULL;
        out[used] = '\0';
    }
    return at + 1;
}

static inline const char *dmx_json_walk_number(const char *at, const char *end) {
    if (at < end && *at == '-') at++;
    if (at >= end || *at < '0' || *at > '9') return NULL;
    if (*at == '0') at++;
    else while (at < end && *at >= '0' && *at <= '9') at++;
    if (at < end && *at == '.') {
        const char *first = ++at;
        while (at < end && *at >= '0' && *at <= '9') at++;
        if (at == first) return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        const char *first = at;
        while (at < end && *at >= '0' && *at <= '9') at++;
        if (at == first) return NULL;
    }
    return at;
}

// Walks over any value; returns what follows it, or NULL when it is broken.
static inline const char *dmx_json_walk(const char *at, const char *end, int depth) {
    static const char *const words[] = {"true", "false", "null"};
    if (at >= end || depth > DMX_JSON_DEPTH) return NULL;
    if (*at == '"') return dmx_json_walk_string(at, end, NULL, 0);
    if (*at == '{' || *at == '[') {
        char close = *at == '{' ? '}' : ']';
        at = dmx_json_space(at + 1, end);
        if (at < end && *at == close) return at + 1;
        for (;;) {
            if (close == '}') {
                at = dmx_json_walk_string(at, end, NULL, 0);
                if (!at) return NULL;
                at = dmx_json_space(at, end);
                if (at >= end || *at != ':') return NULL;
                at = dmx_json_space(at + 1, end);
            }
            at = dmx_json_walk(at, end, depth + 1);
            if (!at) return NULL;
            at = dmx_json_space(at, end);
            if (at >= end) return NULL;
            if (*at == close) return at + 1;
            if (*at != ',') return NULL;
            at = dmx_json_space(at + 1, end);
        }
    }
    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(end - at) >= length && memcmp(at, words[i], length) == 0) return at + length;
    }
    return dmx_json_walk_number(at, end);
}

// Checks that a text is one JSON object and nothing else. False, and `object->at` NULL, otherwise.
static inline bool dmx_json_parse(const char *text, size_t length, dmx_json *object) {
    const char *end = text + length, *at = dmx_json_space(text, end);
    object->at = NULL;
    object->length = 0;
    if (at >= end || *at != '{') return false;
    const char *after = dmx_json_walk(at, end, 0);
    if (!after || dmx_json_space(after, end) != end) return false;
    object->at = at;
    object->length = (size_t)(after - at);
    return true;
}

// Goes through the members of a checked object or array: start with *cursor NULL. False at the end, or when the value is
// neither. `key` is an array's NULL.
static inline bool dmx_json_next(dmx_json container, const char **cursor, dmx_json *key, dmx_json *value) {
    if (!container.at || container.length < 2 || (*container.at != '{' && *container.at != '[')) return false;
    const char *end = container.at + container.length - 1; // without the closing bracket
    const char *at = dmx_json_space(*cursor ? *cursor : container.at + 1, end);
    if (*cursor && at < end && *at == ',') at = dmx_json_space(at + 1, end);
    key->at = NULL;
    key->length = 0;
    if (at >= end) return false;
    if (*container.at == '{') {
        const char *after = dmx_json_walk_string(at, end, NULL, 0);
        if (!after) return false;
        key->at = at;
        key->length = (size_t)(after - at);
        at = dmx_json_space(after, end);
        if (at >= end || *at != ':') return false;
        at = dmx_json_space(at + 1, end);
    }
    const char *after = dmx_json_walk(at, end, 1);
    if (!after) return false;
    value->at = at;
    value->length = (size_t)(after - at);
    *cursor = after;
    return true;
}

// A string's text, NUL-terminated. False when the value is no string, holds a NUL or does not fit.
static inline bool dmx_json_string(dmx_json value, char *out, size_t capacity) {
    if (!value.at || capacity == 0) return false;
    return dmx_json_walk_string(value.at, value.at + value.length, out, capacity) != NULL;
}

static inline bool dmx_json_is_null(dmx_json value) {
    return value.at && value.length == 4 && memcmp(value.at, "null", 4) == 0;
}

// A member of a checked object. A member that is null counts as absent. The first of two with one name is found.
static inline bool dmx_json_get(dmx_json object, const char *name, dmx_json *value) {
    const char *cursor = NULL;
    dmx_json key;
    char text[64];
    if (object.at && *object.at == '{')
        while (dmx_json_next(object, &cursor, &key, value))
            if (dmx_json_string(key, text, sizeof text) && strcmp(text, name) == 0 && !dmx_json_is_null(*value)) return true;
    value->at = NULL;
    value->length = 0;
    return false;
}

// Digits to a number; false when there are none, one is wrong, or it does not fit.
static inline bool dmx_json_digits(const char *at, const char *end, unsigned base, uint64_t *number) {
    uint64_t result = 0;
    if (at >= end) return false;
    for (; at < end; at++) {
        int digit = dmx_json_digit(*at);
        if (digit < 0 || (unsigned)digit >= base || result > (UINT64_MAX - (unsigned)digit) / base) return false;
        result = result * base + (unsigned)digit;
    }
    *number = result;
    return true;
}

// A JSON number without sign, fraction or exponent.
static inline bool dmx_json_unsigned(dmx_json value, uint64_t *number) {
    return value.at && dmx_json_digits(value.at, value.at + value.length, 10, number);
}

static inline bool dmx_json_boolean(dmx_json value, bool *flag) {
    if (!value.at || (*value.at != 't' && *value.at != 'f')) return false;
    *flag = *value.at == 't';
    return true;
}

// A number as the protocol writes 64-bit ones, in text: "0x500", or decimal digits.
static inline bool dmx_parse_number(const char *text, uint64_t *number) {
    const char *end = text + strlen(text);
    bool hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    return dmx_json_digits(hexadecimal ? text + 2 : text, end, hexadecimal ? 16 : 10, number);
}

// The same from a JSON string.
static inline bool dmx_json_number_text(dmx_json value, uint64_t *number) {
    char text[32];
    return dmx_json_string(value, text, sizeof text) && dmx_parse_number(text, number);
}

// MARK: writing

// A text that is being put together in somebody's buffer. `full` says that something did not fit: do not send it then.
typedef struct dmx_text {
    char *at;
    size_t capacity;
    size_t length;
    bool full;
} dmx_text;

static inline dmx_text dmx_text_in(char *buffer, size_t capacity) {
    dmx_text text;
    text.at = buffer;
    text.capacity = capacity;
    text.length = 0;
    text.full = capacity == 0;
    if (capacity) buffer[0] = '\0';
    return text;
}

// Adds as printf does. Only for text that needs no quoting.
__attribute__((format(printf, 2, 3))) static inline void dmx_text_add(dmx_text *text, const char *format, ...) {
    va_list arguments;
    if (text->full) return;
    va_start(arguments, format);
    int length = vsnprintf(text->at + text->length, text->capacity - text->length, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= text->capacity - text->length) {
        text->full = true;
        return;
    }
    text->length += (size_t)length;
}

// Adds a JSON string. What is not UTF-8 becomes a question mark, so that the packet stays one that can be read.
static inline void dmx_text_quote(dmx_text *text, const char *string) {
    const char *end = string + strlen(string);
    dmx_text_add(text, "\"");
    while (string < end) {
        unsigned char c = (unsigned char)*string;
        size_t length = dmx_json_utf8(string, end);
        if (length == 0) {
            dmx_text_add(text, "?");
            length = 1;
        } else if (c == '"' || c == '\\') {
            dmx_text_add(text, "\\%c", c);
        } else if (c < 0x20) {
            dmx_text_add(text, "\\u%04x", (unsigned)c);
        } else {
            dmx_text_add(text, "%.*s", (int)length, string);
        }
        string += length;
    }
    dmx_text_add(text, "\"");
}

#ifdef __cplusplus
}
#endif

#endif
