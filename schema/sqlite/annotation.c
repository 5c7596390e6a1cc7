/* Annotations of a point as text, and back. */
#include "annotation.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 64 };

static const char zero_value[] = "-0", zero_error[] = "-0-error";

static bool is_negative_zero(double value)
{
    return value == 0.0 && signbit(value);
}

static uint8_t own_trust(unsigned metric)
{
    return (uint8_t)lyap_metric_info((enum lyap_metric)metric)->trust;
}

void lyap_marks_of(const struct lyap_point *point, struct lyap_marks *ret_marks)
{
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_value *value = &point->metrics[i];
        ret_marks->reason[i] = value->reason;
        ret_marks->trust[i] = value->trust;
        ret_marks->zero[i] = (uint8_t)((is_negative_zero(value->value) ? LYAP_MARK_ZERO_VALUE : 0) |
                                       (is_negative_zero(value->error) ? LYAP_MARK_ZERO_ERROR : 0));
    }
}

/* A text that grows to the right; sizes are bounded by the tables, so that it cannot overflow. */
struct text {
    char *bytes;
    size_t length, size;
};

static void append(struct text *text, const char *word)
{
    const size_t length = strlen(word);
    assert(text->length + length < text->size);
    memcpy(text->bytes + text->length, word, length + 1);
    text->length += length;
}

static void append_word(struct text *text, const char *word)
{
    if (text->bytes[text->length - 1] != '"')
        append(text, " ");
    append(text, word);
}

static bool has_marks(const struct lyap_marks *marks, unsigned i)
{
    return marks->reason[i] != LYAP_REASON_NONE || marks->trust[i] != own_trust(i) ||
           marks->zero[i] != 0;
}

static void append_metric(struct text *text, const struct lyap_marks *marks, unsigned i)
{
    append(text, text->length == 0 ? "{\"" : ", \"");
    append(text, lyap_metric_info((enum lyap_metric)i)->name);
    append(text, "\": \"");
    if (marks->reason[i] != LYAP_REASON_NONE)
        append_word(text, lyap_reason_name((enum lyap_reason)marks->reason[i]));
    if (marks->trust[i] != own_trust(i))
        append_word(text, lyap_trust_name((enum lyap_trust)marks->trust[i]));
    if (marks->zero[i] & LYAP_MARK_ZERO_VALUE)
        append_word(text, zero_value);
    if (marks->zero[i] & LYAP_MARK_ZERO_ERROR)
        append_word(text, zero_error);
    append(text, "\"");
}

void lyap_marks_write(const struct lyap_marks *marks, char ret_text[LYAP_ANNOTATION_BYTES])
{
    struct text text = { .bytes = ret_text, .size = LYAP_ANNOTATION_BYTES };
    ret_text[0] = '\0';
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        if (has_marks(marks, i))
            append_metric(&text, marks, i);
    if (text.length > 0)
        append(&text, "}");
}

static void read_word(struct lyap_marks *marks, enum lyap_metric metric, const char *word)
{
    enum lyap_reason reason;
    if (lyap_reason_parse(word, &reason))
        marks->reason[metric] = (uint8_t)reason;
    else if (strcmp(word, zero_value) == 0)
        marks->zero[metric] |= LYAP_MARK_ZERO_VALUE;
    else if (strcmp(word, zero_error) == 0)
        marks->zero[metric] |= LYAP_MARK_ZERO_ERROR;
    for (int i = LYAP_TRUST_I; i <= LYAP_TRUST_C; i++)
        if (strcmp(word, lyap_trust_name((enum lyap_trust)i)) == 0)
            marks->trust[metric] = (uint8_t)i;
}

/* Copies the next run of characters outside `stops` and returns what follows it; NULL at the end of
 * the text. A run that is too long is cut: no name of ours is. */
static const char *next_word(const char *text, const char *stops, char ret_word[NAME_BYTES])
{
    text += strspn(text, stops);
    const size_t length = strcspn(text, stops);
    if (length == 0)
        return NULL;
    (void)snprintf(ret_word, NAME_BYTES, "%.*s", (int)length, text);
    return text + length;
}

/* The texts are ours: names and words hold no quote, so quotes alone separate them. */
void lyap_marks_read(const char *text, struct lyap_marks *ret_marks)
{
    *ret_marks = (struct lyap_marks){ 0 };
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        ret_marks->trust[i] = own_trust(i);
    char word[NAME_BYTES];
    enum lyap_metric metric = LYAP_METRIC_COUNT;
    while (text && (text = next_word(text, "{}\" ,", word)) != NULL) {
        if (strcmp(word, ":") == 0)
            continue;
        const bool is_key = text[0] == '"' && text[1] == ':';
        if (is_key && !lyap_metric_parse(word, &metric))
            metric = LYAP_METRIC_COUNT;
        if (!is_key && metric != LYAP_METRIC_COUNT)
            read_word(ret_marks, metric, word);
    }
}

bool lyap_nans_write(const struct lyap_point *point, char ret_text[LYAP_ANNOTATION_BYTES])
{
    struct text text = { .bytes = ret_text, .size = LYAP_ANNOTATION_BYTES };
    ret_text[0] = '\0';
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_value *value = &point->metrics[i];
        if (value->reason != LYAP_REASON_NONE || !isnan(value->value))
            continue;
        if (text.length > 0)
            append(&text, ",");
        append(&text, lyap_metric_info((enum lyap_metric)i)->name);
    }
    return text.length > 0;
}

void lyap_nans_read(const char *text, bool ret_is_nan[LYAP_METRIC_COUNT])
{
    memset(ret_is_nan, 0, LYAP_METRIC_COUNT * sizeof *ret_is_nan);
    char word[NAME_BYTES];
    enum lyap_metric metric;
    while (text && (text = next_word(text, ",", word)) != NULL)
        if (lyap_metric_parse(word, &metric))
            ret_is_nan[metric] = true;
}
