/* Numbers, times and quoted words of wire text. */
#include "lyap/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "banned.h"

enum {
    NUMBER_BYTES_MAX = 400, /* -1.7976931348623157e308 written out has 310 digits */
    POINT_BYTES_MAX = 8,    /* a decimal point of some locale */
    NS_DIGITS = 9
};
#define NS_PER_S INT64_C(1000000000)

const char *lyap_quote(const char *value, size_t length, struct lyap_quote *ret_quote)
{
    static const char dots[] = "...";
    char *out = ret_quote->text;
    const size_t room = LYAP_QUOTE_BYTES - 2 - sizeof dots; /* two quotes, dots, terminator */
    const size_t shown = length < room ? length : room;
    *out++ = '"';
    for (size_t i = 0; i < shown; i++)
        *out++ = value[i] >= ' ' && value[i] <= '~' && value[i] != '"' ? value[i] : '?';
    if (shown < length) {
        memcpy(out, dots, sizeof dots - 1);
        out += sizeof dots - 1;
    }
    *out++ = '"';
    *out = '\0';
    return ret_quote->text;
}

const char *lyap_quote_string(const char *value, struct lyap_quote *ret_quote)
{
    return lyap_quote(value, strlen(value), ret_quote);
}

const char *lyap_quote_shape(const uint64_t *shape, uint32_t rank, struct lyap_quote *ret_quote)
{
    enum { NUMBER_BYTES = 21, TAIL_BYTES = 5 }; /* comma and 20 digits; "...]" */
    char *out = ret_quote->text;
    *out++ = '[';
    for (uint32_t i = 0; i < rank; i++) {
        const size_t room = (size_t)(ret_quote->text + LYAP_QUOTE_BYTES - out);
        if (room < NUMBER_BYTES + TAIL_BYTES) {
            memcpy(out, "...", 3);
            out += 3;
            break;
        }
        out += snprintf(out, room, i > 0 ? ",%llu" : "%llu", (unsigned long long)shape[i]);
    }
    memcpy(out, "]", 2);
    return ret_quote->text;
}

/* The decimal point of the locale, which the C library's conversions use. */
static const char *locale_point(char ret[POINT_BYTES_MAX])
{
    (void)snprintf(ret, POINT_BYTES_MAX, "%.1f", 1.5);
    size_t bytes = 0;
    while (ret[1 + bytes] && ret[1 + bytes] != '5')
        bytes++;
    memmove(ret, ret + 1, bytes);
    ret[bytes] = '\0';
    return ret;
}

const char *lyap_quote_double(double value, struct lyap_quote *ret_quote)
{
    char point[POINT_BYTES_MAX];
    char *text = ret_quote->text;
    if (!isfinite(value)) {
        (void)snprintf(text, LYAP_QUOTE_BYTES, "%s",
                       isnan(value) ? "NaN"
                       : value < 0  ? "-Infinity"
                                    : "Infinity");
        return text;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, LYAP_QUOTE_BYTES, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    char *found = strstr(text, locale_point(point));
    if (found) {
        const size_t bytes = strlen(point);
        *found = '.';
        memmove(found + 1, found + bytes, strlen(found + bytes) + 1);
    }
    return text;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_word(const char *text, size_t length, const char *word)
{
    for (size_t i = 0; i < length; i++)
        if (!word[i] || lower(text[i]) != word[i])
            return false;
    return word[length] == '\0';
}

static bool nonfinite_parse(const char *text, size_t length, double *ret)
{
    const bool is_signed = length > 0 && (text[0] == '-' || text[0] == '+');
    const char *word = text + is_signed;
    const size_t rest = length - is_signed;
    if (is_word(word, rest, "nan")) {
        *ret = NAN;
        return true;
    }
    if (is_word(word, rest, "inf") || is_word(word, rest, "infinity")) {
        *ret = text[0] == '-' ? -INFINITY : INFINITY;
        return true;
    }
    return false;
}

/* Copies a decimal of known alphabet, its point replaced by `point`; returns the bytes used. */
static size_t decimal_copy(const char *text, size_t length, const char *point, char *ret)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] != '.') {
            ret[used++] = text[i];
            continue;
        }
        memcpy(ret + used, point, strlen(point));
        used += strlen(point);
    }
    ret[used] = '\0';
    return used;
}

static bool is_decimal(const char *text, size_t length)
{
    size_t points = 0;
    for (size_t i = 0; i < length; i++) {
        if (!memchr("0123456789+-.eE", text[i], 15))
            return false;
        points += text[i] == '.';
    }
    return length > 0 && length <= NUMBER_BYTES_MAX && points <= 1;
}

/* strtod reads the locale's decimal point: where it stumbles over the wire's, it gets its own. */
bool lyap_text_double(const char *text, size_t length, double *ret)
{
    char buffer[NUMBER_BYTES_MAX + POINT_BYTES_MAX + 1], point[POINT_BYTES_MAX];
    char *end;
    if (!is_decimal(text, length))
        return nonfinite_parse(text, length, ret);
    size_t used = decimal_copy(text, length, ".", buffer);
    double value = strtod(buffer, &end);
    if (end != buffer + used && *end == '.') {
        used = decimal_copy(text, length, locale_point(point), buffer);
        value = strtod(buffer, &end);
    }
    if (end != buffer + used || !isfinite(value))
        return false;
    *ret = value;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool lyap_text_integer(const char *text, size_t length, int64_t *ret)
{
    const bool is_negative = length > 0 && text[0] == '-';
    size_t i = length > 0 && (text[0] == '-' || text[0] == '+');
    if (i == length)
        return false;
    int64_t value = 0;
    for (; i < length; i++) {
        if (!is_digit(text[i]))
            return false;
        const int64_t digit = text[i] - '0';
        const bool is_full = value > (INT64_MAX - digit) / 10;
        value = is_full ? INT64_MAX : value * 10 + digit;
    }
    *ret = is_negative ? -value : value;
    return true;
}

/* Cursor over a time's text. */
struct scan {
    const char *text;
    size_t length, at;
};

static bool scan_digits(struct scan *scan, size_t count, int64_t *ret)
{
    int64_t value = 0;
    for (size_t i = 0; i < count; i++, scan->at++) {
        if (scan->at >= scan->length || !is_digit(scan->text[scan->at]))
            return false;
        value = value * 10 + (scan->text[scan->at] - '0');
    }
    *ret = value;
    return true;
}

static bool scan_any(struct scan *scan, const char *set, char *ret)
{
    if (scan->at >= scan->length || !scan->text[scan->at] || !strchr(set, scan->text[scan->at]))
        return false;
    *ret = scan->text[scan->at++];
    return true;
}

/* A point and at least one digit, or nothing. */
static bool scan_fraction(struct scan *scan, int64_t *ret_ns)
{
    char point;
    *ret_ns = 0;
    if (!scan_any(scan, ".", &point))
        return true;
    size_t digits = 0;
    for (; scan->at < scan->length && is_digit(scan->text[scan->at]); scan->at++, digits++)
        if (digits < NS_DIGITS)
            *ret_ns = *ret_ns * 10 + (scan->text[scan->at] - '0');
    for (size_t i = digits; i < NS_DIGITS; i++)
        *ret_ns *= 10;
    return digits > 0;
}

/* Days from 1970-01-01 in the Gregorian calendar: years counted from March, so that the leap day is
 * the last day of a year. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    const int64_t y = month > 2 ? year : year - 1;
    const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

static int64_t days_in_month(int64_t year, int64_t month)
{
    static const int64_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    const bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && is_leap);
}

static bool scan_date(struct scan *scan, int64_t *ret_days)
{
    int64_t year, month, day;
    char mark;
    if (!scan_digits(scan, 4, &year) || !scan_any(scan, "-", &mark) ||
        !scan_digits(scan, 2, &month) || !scan_any(scan, "-", &mark) || !scan_digits(scan, 2, &day))
        return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
        return false;
    *ret_days = days_from_date(year, month, day);
    return true;
}

static bool scan_clock(struct scan *scan, int64_t *ret_seconds, int64_t *ret_ns)
{
    int64_t hour, minute, second;
    char mark;
    if (!scan_digits(scan, 2, &hour) || !scan_any(scan, ":", &mark) ||
        !scan_digits(scan, 2, &minute) || !scan_any(scan, ":", &mark) ||
        !scan_digits(scan, 2, &second) || !scan_fraction(scan, ret_ns))
        return false;
    if (hour > 23 || minute > 59 || second > 60) /* 60: a leap second */
        return false;
    *ret_seconds = hour * 3600 + minute * 60 + second;
    return true;
}

static bool scan_offset(struct scan *scan, int64_t *ret_seconds)
{
    int64_t hours, minutes;
    char sign, mark;
    if (!scan_any(scan, "Zz+-", &sign))
        return false;
    *ret_seconds = 0;
    if (sign == 'Z' || sign == 'z')
        return true;
    if (!scan_digits(scan, 2, &hours) || !scan_any(scan, ":", &mark) ||
        !scan_digits(scan, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

static bool ns_join(int64_t seconds, int64_t ns, int64_t *ret_ns)
{
    if (seconds < 0 || seconds > INT64_MAX / NS_PER_S - 1)
        return false;
    *ret_ns = seconds * NS_PER_S + ns;
    return true;
}

static bool seconds_parse(const char *text, size_t length, int64_t *ret_ns)
{
    struct scan scan = { text, length, 0 };
    int64_t seconds, ns;
    while (scan.at < length && is_digit(text[scan.at]))
        scan.at++;
    return lyap_text_integer(text, scan.at, &seconds) && scan_fraction(&scan, &ns) &&
           scan.at == length && ns_join(seconds, ns, ret_ns);
}

bool lyap_text_time(const char *text, size_t length, int64_t *ret_ns)
{
    struct scan scan = { text, length, 0 };
    int64_t days, seconds, ns, offset;
    char mark;
    if (seconds_parse(text, length, ret_ns))
        return true;
    if (!scan_date(&scan, &days) || !scan_any(&scan, "Tt ", &mark) ||
        !scan_clock(&scan, &seconds, &ns) || !scan_offset(&scan, &offset) || scan.at != length)
        return false;
    return ns_join(days * 86400 + seconds - offset, ns, ret_ns);
}

/* Length of the sequence that starts at text[0], 0 when it is malformed. The second byte's range
 * excludes overlong forms, surrogates and what lies beyond U+10FFFF. */
static size_t utf8_sequence(const unsigned char *text, size_t length)
{
    const unsigned char first = text[0];
    if (first < 0x80)
        return 1;
    const size_t bytes = first < 0xC2   ? 0
                         : first < 0xE0 ? 2
                         : first < 0xF0 ? 3
                         : first < 0xF5 ? 4
                                        : 0;
    if (bytes == 0 || bytes > length)
        return 0;
    const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < bytes; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    return bytes;
}

bool lyap_text_is_utf8(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        const size_t bytes = utf8_sequence((const unsigned char *)text + at, length - at);
        if (bytes == 0)
            return false;
        at += bytes;
    }
    return true;
}
