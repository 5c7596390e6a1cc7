/* query.h - cursors over the tables. THREADS: a cursor has one owner at a time. */
#ifndef LYAP_STORE_QUERY_H
#define LYAP_STORE_QUERY_H

#include "annotation.h"
#include "lyap/record.h"
#include "pool.h"
#include "sql.h"

struct lyap_series; /* series.c */

struct lyap_rows {           /* the cursor behind struct lyap_cursor */
    struct lyap_cursor base; /* first: what the caller holds */
    struct lyap_pool *pool;
    struct lyap_reader *reader;
    enum lyap_table table;
    struct lyap_bind bind; /* the statement that is open; stmt NULL: none */
    bool is_done;
    int64_t rank;               /* tensors: position of the next row */
    int64_t marks_id;           /* annotation that `marks` holds; -1: none */
    struct lyap_marks marks;    /* points */
    struct lyap_series *series; /* owned; series only */
};

/* A reader and what a query refers to by name. */
struct lyap_query_target {
    int64_t run_id;   /* 0: no run was named */
    uint32_t attempt; /* never 0 when a run was named, unless every attempt is meant */
};

/* Fills the record of rows->table from the row that stands in rows->bind. */
void lyap_decode_layer(struct lyap_row *row, struct lyap_record *ret_record);
void lyap_decode(struct lyap_rows *rows, struct lyap_record *ret_record);

/* Plans the series; its statements run in next. E_LIMIT, E_NOT_FOUND (tensor), E_INVALID, faults.
 */
LYAP_MUST_CHECK enum lyap_status lyap_series_open(struct lyap_rows *rows,
                                                  const struct lyap_query *query,
                                                  const struct lyap_query_target *target);
LYAP_MUST_CHECK enum lyap_status lyap_series_next(struct lyap_rows *rows,
                                                  struct lyap_record *ret_record);

/* LIMIT of SQL: 0 means without. */
static inline int64_t lyap_query_limit(const struct lyap_query *query)
{
    return query->limit == 0 ? -1 : (int64_t)query->limit;
}
/* The key beyond which rows come, in the direction of the query. */
static inline int64_t lyap_query_after(const struct lyap_query *query)
{
    return query->is_descending && query->after < 0 ? INT64_MAX : query->after;
}

#endif
