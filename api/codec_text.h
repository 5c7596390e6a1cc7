/* codec_text.h - members of JSON objects as the encoders write them. THREADS: pure functions. */
#ifndef LYAP_API_CODEC_TEXT_H
#define LYAP_API_CODEC_TEXT_H

#include <math.h>

#include "text.h"

static inline void api_member_string(struct api_text *text, const char *key, const char *value)
{
    api_json_key(text, key);
    api_json_string(text, value);
}

static inline void api_member_int(struct api_text *text, const char *key, int64_t value)
{
    api_json_key(text, key);
    api_json_int(text, value);
}

/* -1 stands for "not yet" in steps. */
static inline void api_member_step(struct api_text *text, const char *key, int64_t step)
{
    api_json_key(text, key);
    if (step < 0)
        api_json_null(text);
    else
        api_json_int(text, step);
}

static inline void api_member_number(struct api_text *text, const char *key, double value)
{
    api_json_key(text, key);
    api_json_number(text, value);
}

/* NaN stands for "absent" in the fields that use this. */
static inline void api_member_optional(struct api_text *text, const char *key, double value)
{
    api_json_key(text, key);
    if (isnan(value))
        api_json_null(text);
    else
        api_json_number(text, value);
}

static inline void api_member_bool(struct api_text *text, const char *key, bool value)
{
    api_json_key(text, key);
    api_json_bool(text, value);
}

static inline void api_member_raw(struct api_text *text, const char *key, const char *json)
{
    api_json_key(text, key);
    api_json_raw(text, json);
}

/* 0 stands for "not yet" in times. */
static inline void api_member_time(struct api_text *text, const char *key, int64_t time_ns)
{
    api_json_key(text, key);
    if (time_ns == 0)
        api_json_null(text);
    else
        api_json_time(text, time_ns);
}

#endif
