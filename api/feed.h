/* feed.h - reading the live feed of api.h: each reader has a place in the ring and no buffer of its
 * own, so that a slow one costs nothing and at worst loses what the ring no longer holds, which it
 * is told. THREADS: any; a reader has one owner. */
#ifndef LYAP_API_FEED_H
#define LYAP_API_FEED_H

#include "api.h"
#include "text.h"

struct api_feed_filter {
    const char *run; /* pattern; NULL: all, the daemon itself included */
    unsigned types;  /* bit of each enum api_feed_type */
};

/* At most so many readers from now on, and never more than API_FEED_READERS_MAX. Before the first
 * is opened. */
void api_feed_limit(struct api_feed *feed, uint32_t readers);

struct api_feed_reader;
/* `last_id`: of the Last-Event-ID header, or NULL: from now on. Strings are copied. E_BUSY: there
 * are as many as may be; E_INVALID: the pattern is too long; E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status api_feed_open(struct api_feed *feed, const char *last_id,
                                               const struct api_feed_filter *filter,
                                               struct api_feed_reader **ret_reader,
                                               struct lyap_error *reterr);
void api_feed_close(struct api_feed_reader *reader); /* NULL: nothing */
/* Appends what has come since, about a slice of it; a heartbeat when it is time for one. Nothing
 * may be appended, also where there is more to look at. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status api_feed_read(struct api_feed_reader *reader,
                                               struct api_text *out);
/* Whether a read would look at anything. */
bool api_feed_has_more(const struct api_feed_reader *reader);

/* `woken` is called from any thread, with no lock of the feed held, when readers may have more. One
 * at a time; NULL: nobody. */
void api_feed_on_change(struct api_feed *feed, void (*woken)(void *arg), void *arg);
bool api_feed_type_parse(const char *name, size_t length, enum api_feed_type *ret_type);

#endif
