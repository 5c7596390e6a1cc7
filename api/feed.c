/* The live feed: a ring of texts, places in it, and who is woken. */
#include "feed.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "codec_text.h"
#include "lyap/glob.h"
#include "request.h"

enum {
    TEXT_BYTES_MAX = LYAP_PAYLOAD_BYTES_MAX, /* of one event: an alert with its evidence */
    LOOKS_MAX = 4096, /* entries that one read passes over, or that go by without an id */
};

static const char *const names[API_FEED_TYPE_COUNT] = {
#define ROW(name, wire) wire,
    API_FEED_TYPE_TABLE(ROW)
#undef ROW
};

struct entry {
    struct entry *next; /* while it is staged */
    enum api_feed_type type;
    char run[LYAP_RUN_NAME_BYTES_MAX + 1]; /* empty: the daemon itself */
    size_t length;
    char text[]; /* JSON of one line */
};

struct api_feed {
    int64_t epoch;
    uint32_t readers_max;
    _Atomic bool is_wanted; /* somebody reads, or did a moment ago */

    struct entry *staged, **staged_end; /* the engine's */
    size_t staged_bytes;
    uint64_t staged_count, staged_dropped; /* dropped: what the ring will not hold */

    pthread_mutex_t lock; /* guards what follows */
    struct entry **ring;  /* at sequence % API_FEED_ENTRIES_MAX; NULL until somebody reads */
    uint64_t first, next; /* sequences that the ring holds: first to next - 1; none without it */
    size_t bytes;
    uint64_t beat;
    int64_t next_beat_ns, idle_since_ns; /* idle_since_ns 0: somebody reads */
    struct api_feed_counts counts;

    pthread_mutex_t wake_lock; /* held while `woken` runs */
    void (*woken)(void *arg);
    void *woken_arg;
};

struct api_feed_reader {
    struct api_feed *feed;
    uint64_t next, beat;
    uint64_t told;    /* the newest sequence that the client has an id of */
    uint64_t unknown; /* 1: the id it came with is none of the ring's */
    unsigned types;
    bool is_greeted, has_run;
    struct lyap_glob run; /* compiled once: it is matched with the lock held */
};

/* ---- life cycle ---- */

struct api_feed *api_feed_new(int64_t epoch)
{
    struct api_feed *feed = calloc(1, sizeof *feed);
    if (!feed)
        return NULL;
    feed->epoch = epoch;
    feed->readers_max = API_FEED_READERS_MAX;
    feed->staged_end = &feed->staged;
    feed->first = feed->next = 1;
    pthread_mutex_init(&feed->lock, NULL);
    pthread_mutex_init(&feed->wake_lock, NULL);
    return feed;
}

static size_t bytes_of(const struct entry *entry)
{
    return sizeof *entry + entry->length;
}

static struct entry **slot(struct api_feed *feed, uint64_t sequence)
{
    return &feed->ring[sequence % API_FEED_ENTRIES_MAX];
}

static void drop_first(struct api_feed *feed)
{
    struct entry **place = slot(feed, feed->first++);
    feed->bytes -= bytes_of(*place);
    free(*place);
    *place = NULL;
}

static void empty(struct api_feed *feed)
{
    while (feed->first < feed->next)
        drop_first(feed);
    free(feed->ring);
    feed->ring = NULL;
}

static void drop_staged(struct api_feed *feed)
{
    while (feed->staged) {
        struct entry *entry = feed->staged;
        feed->staged = entry->next;
        free(entry);
    }
    feed->staged_end = &feed->staged;
    feed->staged_bytes = 0;
    feed->staged_count = feed->staged_dropped = 0;
}

void api_feed_free(struct api_feed *feed)
{
    if (!feed)
        return;
    assert(feed->counts.readers == 0);
    drop_staged(feed);
    empty(feed);
    pthread_mutex_destroy(&feed->lock);
    pthread_mutex_destroy(&feed->wake_lock);
    free(feed);
}

/* ---- the engine's side ---- */

/* While nobody reads, events are counted alone: a reader that opens before their batch is settled
 * is told that it missed them. */
static bool is_kept(struct api_feed *feed)
{
    const bool is_kept = atomic_load(&feed->is_wanted);
    feed->staged_dropped += !is_kept;
    return is_kept;
}

/* Takes what `text` holds. Without memory an event is lost, and told as such. */
static void stage(struct api_feed *feed, enum api_feed_type type, const char *run,
                  struct api_text *text)
{
    struct entry *entry = NULL;
    if (text->status == LYAP_OK)
        entry = malloc(sizeof *entry + text->length);
    if (entry) {
        *entry = (struct entry){ .type = type, .length = text->length };
        (void)snprintf(entry->run, sizeof entry->run, "%s", run);
        memcpy(entry->text, text->bytes, text->length);
        *feed->staged_end = entry;
        feed->staged_end = &entry->next;
        feed->staged_bytes += bytes_of(entry);
        feed->staged_count++;
    } else {
        feed->staged_dropped++;
    }
    api_text_release(text);
    /* One batch may be larger than the ring: the oldest of it will not be missed there. */
    while (feed->staged && feed->staged->next &&
           (feed->staged_bytes > API_FEED_BYTES_MAX || feed->staged_count > API_FEED_ENTRIES_MAX)) {
        struct entry *oldest = feed->staged;
        feed->staged = oldest->next;
        feed->staged_bytes -= bytes_of(oldest);
        feed->staged_count--;
        feed->staged_dropped++;
        free(oldest);
    }
}

void api_feed_stage_point(struct api_feed *feed, const char *run, const struct lyap_point *point)
{
    static const enum lyap_metric shown[] = { LYAP_METRIC_LOSS, LYAP_METRIC_LR,
                                              LYAP_METRIC_GRAD_NORM,
                                              LYAP_METRIC_INSTABILITY_SCORE };
    struct api_text text;
    if (!is_kept(feed))
        return;
    api_text_init(&text, TEXT_BYTES_MAX);
    api_json_open(&text, '{');
    api_member_string(&text, "run", run);
    api_member_int(&text, "attempt", point->attempt);
    api_member_int(&text, "step", point->step);
    api_member_time(&text, "time", point->time_ns);
    if (point->is_event_only)
        api_member_bool(&text, "event_only", true);
    api_member_string(&text, "state", lyap_run_state_name(point->state));
    api_member_string(&text, "verdict", lyap_verdict_name(point->verdict));
    api_member_string(&text, "action", lyap_action_name(point->action.kind));
    for (unsigned i = 0; i < sizeof shown / sizeof *shown; i++) {
        const struct lyap_value *value = &point->metrics[shown[i]];
        api_json_key(&text, lyap_metric_info(shown[i])->name);
        if (value->reason == LYAP_REASON_NONE)
            api_json_number(&text, value->value);
        else
            api_json_null(&text);
    }
    api_json_close(&text, '}');
    stage(feed, API_FEED_POINT, run, &text);
}

void api_feed_stage_alert(struct api_feed *feed, const struct lyap_alert *alert)
{
    struct lyap_record record = { .key = alert->id, .u.alert = *alert };
    struct api_text text;
    if (!is_kept(feed))
        return;
    api_text_init(&text, TEXT_BYTES_MAX);
    api_encode_alert(&text, &record);
    stage(feed, API_FEED_ALERT, alert->run, &text);
}

void api_feed_stage_mark(struct api_feed *feed, const char *run,
                         const struct lyap_event_record *event)
{
    struct api_text text;
    if (!is_kept(feed))
        return;
    api_text_init(&text, TEXT_BYTES_MAX);
    api_json_open(&text, '{');
    api_member_string(&text, "run", run);
    api_encode_event_members(&text, event);
    api_json_close(&text, '}');
    stage(feed, API_FEED_MARK, run, &text);
}

static void wake(struct api_feed *feed)
{
    pthread_mutex_lock(&feed->wake_lock);
    if (feed->woken)
        feed->woken(feed->woken_arg);
    pthread_mutex_unlock(&feed->wake_lock);
}

void api_feed_settle(struct api_feed *feed, bool is_committed)
{
    if (!feed->staged && feed->staged_dropped == 0)
        return;
    if (!is_committed) {
        drop_staged(feed);
        return;
    }
    pthread_mutex_lock(&feed->lock);
    const bool is_read = feed->ring != NULL;
    const uint64_t unkept = feed->staged_dropped + (is_read ? 0 : feed->staged_count);
    if (unkept > 0) {
        /* Sequences that nothing stands for: whoever has not read up to here has lost them. */
        while (feed->first < feed->next)
            drop_first(feed);
        feed->first = feed->next += unkept;
    }
    while (is_read && feed->staged) {
        struct entry *entry = feed->staged;
        feed->staged = entry->next;
        while (feed->next - feed->first == API_FEED_ENTRIES_MAX ||
               (feed->first < feed->next && feed->bytes + bytes_of(entry) > API_FEED_BYTES_MAX))
            drop_first(feed);
        feed->bytes += bytes_of(entry);
        *slot(feed, feed->next++) = entry;
    }
    pthread_mutex_unlock(&feed->lock);
    drop_staged(feed);
    if (is_read)
        wake(feed);
}

void api_feed_beat(struct api_feed *feed, int64_t monotonic_ns)
{
    const int64_t second = 1000000000;
    pthread_mutex_lock(&feed->lock);
    const bool is_due = monotonic_ns >= feed->next_beat_ns;
    if (is_due) {
        feed->beat++;
        feed->next_beat_ns = monotonic_ns + API_FEED_HEARTBEAT_S * second;
    }
    if (feed->counts.readers > 0 || !feed->ring)
        feed->idle_since_ns = 0;
    else if (feed->idle_since_ns == 0)
        feed->idle_since_ns = monotonic_ns;
    else if (monotonic_ns - feed->idle_since_ns > API_FEED_LINGER_S * second) {
        atomic_store(&feed->is_wanted, false);
        empty(feed);
    }
    const bool is_read = feed->counts.readers > 0;
    pthread_mutex_unlock(&feed->lock);
    if (is_due && is_read)
        wake(feed);
}

struct api_feed_counts api_feed_count(struct api_feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    const struct api_feed_counts counts = feed->counts;
    pthread_mutex_unlock(&feed->lock);
    return counts;
}

void api_feed_on_change(struct api_feed *feed, void (*woken)(void *arg), void *arg)
{
    pthread_mutex_lock(&feed->wake_lock);
    feed->woken = woken;
    feed->woken_arg = arg;
    pthread_mutex_unlock(&feed->wake_lock);
}

/* ---- readers ---- */

void api_feed_limit(struct api_feed *feed, uint32_t readers)
{
    feed->readers_max = readers < API_FEED_READERS_MAX ? readers : API_FEED_READERS_MAX;
}

bool api_feed_type_parse(const char *name, size_t length, enum api_feed_type *ret_type)
{
    for (unsigned i = 0; i < API_FEED_TYPE_COUNT; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
            *ret_type = (enum api_feed_type)i;
            return true;
        }
    return false;
}

/* "<epoch>-<sequence>" of this feed. */
static bool parse_id(const struct api_feed *feed, const char *id, uint64_t *ret_sequence)
{
    char *end;
    errno = 0;
    const uint64_t epoch = strtoull(id, &end, 16);
    if (errno != 0 || *end != '-' || epoch != (uint64_t)feed->epoch)
        return false;
    const char *digits = end + 1;
    *ret_sequence = strtoull(digits, &end, 10);
    return errno == 0 && end > digits && *end == '\0' && *ret_sequence < feed->next;
}

/* Where to go on; *ret_unknown 1: nobody knows what was missed. With the lock. */
static uint64_t place_of(const struct api_feed *feed, const char *last_id, uint64_t *ret_unknown)
{
    uint64_t sequence;
    *ret_unknown = 0;
    if (!last_id || !last_id[0])
        return feed->next;
    if (parse_id(feed, last_id, &sequence))
        return sequence + 1; /* below first: read counts what is gone */
    *ret_unknown = 1;
    return feed->next;
}

enum lyap_status api_feed_open(struct api_feed *feed, const char *last_id,
                               const struct api_feed_filter *filter,
                               struct api_feed_reader **ret_reader, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_E_NOMEM;
    struct api_feed_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return LYAP_E_NOMEM;
    reader->has_run = filter->run != NULL;
    if (filter->run && !lyap_glob_compile(filter->run, &reader->run)) {
        free(reader);
        return lyap_error_set(reterr, LYAP_E_INVALID, "a pattern of runs has at most %d bytes",
                              LYAP_PATTERN_BYTES_MAX);
    }
    reader->feed = feed;
    reader->types = filter->types;
    pthread_mutex_lock(&feed->lock);
    if (feed->counts.readers == feed->readers_max)
        status =
            lyap_error_set(reterr, LYAP_E_BUSY, "%u streams of events are open", feed->readers_max);
    else if (feed->ring || (feed->ring = calloc(API_FEED_ENTRIES_MAX, sizeof(struct entry *))))
        status = LYAP_OK;
    if (status == LYAP_OK) {
        feed->counts.readers++;
        reader->next = place_of(feed, last_id, &reader->unknown);
        reader->beat = feed->beat;
        atomic_store(&feed->is_wanted, true);
    }
    pthread_mutex_unlock(&feed->lock);
    if (status == LYAP_OK)
        *ret_reader = reader;
    else
        free(reader);
    return status;
}

void api_feed_close(struct api_feed_reader *reader)
{
    if (!reader)
        return;
    pthread_mutex_lock(&reader->feed->lock);
    reader->feed->counts.readers--;
    pthread_mutex_unlock(&reader->feed->lock);
    free(reader);
}

static bool is_wanted(const struct api_feed_reader *reader, const struct entry *entry)
{
    return reader->types >> entry->type & 1 &&
           (!reader->has_run || (entry->run[0] && lyap_glob_run(&reader->run, entry->run)));
}

static void put_id(struct api_feed_reader *reader, struct api_text *out, uint64_t sequence)
{
    api_text_printf(out, "id: %" PRIx64 "-%" PRIu64 "\n", (uint64_t)reader->feed->epoch, sequence);
    reader->told = sequence;
}

/* A block without data: a client dispatches nothing and comes back with its id (WHATWG HTML 9.2.6).
 * As a heartbeat, and where so much was passed over that the ring may let go of the last id. */
static void put_place(struct api_feed_reader *reader, struct api_text *out)
{
    api_text_puts(out, ":\n");
    put_id(reader, out, reader->next - 1);
    api_text_puts(out, "\n");
}

/* What is not in the ring any more, or never was: the reader has to look it up. */
static void put_reset(struct api_feed_reader *reader, struct api_text *out)
{
    struct api_feed *feed = reader->feed;
    const bool is_known = !reader->unknown;
    const uint64_t lost = reader->next < feed->first ? feed->first - reader->next : 0;
    if (is_known && lost == 0)
        return;
    reader->unknown = 0;
    reader->next = lost > 0 ? feed->first : reader->next;
    feed->counts.lost += lost;
    put_id(reader, out, reader->next - 1);
    api_text_puts(out, "event: reset\ndata: {\"lost\":");
    if (is_known)
        api_text_printf(out, "%" PRIu64, lost);
    else
        api_text_puts(out, "null");
    api_text_puts(out, "}\n\n");
}

static void put_entry(struct api_feed_reader *reader, const struct entry *entry,
                      struct api_text *out)
{
    put_id(reader, out, reader->next);
    api_text_printf(out, "event: %s\ndata: ", names[entry->type]);
    api_text_append(out, entry->text, entry->length);
    api_text_puts(out, "\n\n");
    reader->feed->counts.sent++;
}

enum lyap_status api_feed_read(struct api_feed_reader *reader, struct api_text *out)
{
    struct api_feed *feed = reader->feed;
    const size_t before = out->length;
    pthread_mutex_lock(&feed->lock);
    if (!reader->is_greeted) {
        reader->is_greeted = true;
        api_text_puts(out, "retry: 3000\n");
        put_id(reader, out, reader->next - 1);
        api_text_puts(out, "event: hello\ndata: {}\n\n");
    }
    put_reset(reader, out);
    for (int i = 0;
         i < LOOKS_MAX && reader->next < feed->next && out->length - before < API_SLICE_BYTES;
         i++) {
        const struct entry *entry = *slot(feed, reader->next);
        if (is_wanted(reader, entry))
            put_entry(reader, entry, out);
        reader->next++;
    }
    const uint64_t passed = reader->next - 1 - reader->told;
    if ((reader->beat != feed->beat && out->length == before) || passed >= LOOKS_MAX)
        put_place(reader, out);
    reader->beat = feed->beat;
    pthread_mutex_unlock(&feed->lock);
    return out->status;
}

bool api_feed_has_more(const struct api_feed_reader *reader)
{
    struct api_feed *feed = reader->feed;
    pthread_mutex_lock(&feed->lock);
    const bool has_more = !reader->is_greeted || reader->unknown || reader->next < feed->next ||
                          reader->beat != feed->beat;
    pthread_mutex_unlock(&feed->lock);
    return has_more;
}
