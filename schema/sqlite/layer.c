/* The newest numbers of the declared layers: one row each, replaced with every batch. What a value
 * is stands in `marks`: its trust, or the reason why it is absent, in the order of the columns. */
#include "writer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "query.h"

enum { MARKS_BYTES = LYAP_LAYER_METRIC_COUNT * 32 };

static void marks_write(const struct lyap_layer_row *row, char text[MARKS_BYTES])
{
    size_t used = 0;
    for (unsigned i = 0; i < LYAP_LAYER_METRIC_COUNT; i++) {
        const struct lyap_value *value = &row->values[i];
        const char *word = value->reason == LYAP_REASON_NONE
                               ? lyap_trust_name((enum lyap_trust)value->trust)
                               : lyap_reason_name((enum lyap_reason)value->reason);
        const size_t length = strlen(word);
        assert(used + length + 2 <= MARKS_BYTES);
        if (i > 0)
            text[used++] = ' ';
        memcpy(text + used, word, length);
        used += length;
    }
    text[used] = '\0';
}

/* An unknown word (edited by hand) is the first reason. */
static void mark_read(const char *word, size_t length, struct lyap_value *value)
{
    char name[MARKS_BYTES / LYAP_LAYER_METRIC_COUNT] = "";
    enum lyap_reason reason = LYAP_REASON_NOT_PUSHED;
    if (length < sizeof name)
        memcpy(name, word, length);
    for (unsigned trust = LYAP_TRUST_I; trust <= LYAP_TRUST_C; trust++)
        if (strcmp(name, lyap_trust_name((enum lyap_trust)trust)) == 0) {
            value->trust = (uint8_t)trust;
            value->reason = LYAP_REASON_NONE;
            return;
        }
    (void)lyap_reason_parse(name, &reason);
    value->reason = (uint8_t)reason;
}

static void marks_read(const char *text, struct lyap_layer_row *row)
{
    for (unsigned i = 0; i < LYAP_LAYER_METRIC_COUNT; i++) {
        const size_t length = text ? strcspn(text, " ") : 0;
        mark_read(text ? text : "", length, &row->values[i]);
        text = text && text[length] ? text + length + 1 : NULL;
    }
}

static enum lyap_status put_row(struct lyap_writer *writer, const struct lyap_layer_batch *batch,
                                const struct lyap_layer_row *row)
{
    const struct lyap_layer *layer = &batch->network->layers[row->layer];
    char marks[MARKS_BYTES];
    marks_write(row, marks);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_LAYER);
    lyap_bind_int(&bind, batch->run_id);
    lyap_bind_int(&bind, batch->attempt);
    lyap_bind_int(&bind, row->layer);
    lyap_bind_int(&bind, batch->step);
    lyap_bind_text(&bind, lyap_network_name(batch->network, row->layer));
    lyap_bind_text(&bind, lyap_layer_kind_name((enum lyap_layer_kind)layer->kind));
    lyap_bind_text(&bind, lyap_bound_method_name((enum lyap_bound_method)row->method));
    lyap_bind_step(&bind, row->bound_step);
    lyap_bind_copy(&bind, marks);
    for (unsigned i = 0; i < LYAP_LAYER_METRIC_COUNT; i++)
        lyap_bind_double(&bind, row->values[i].value);
    return lyap_sql_run(&bind, lyap_writer_call(writer));
}

enum lyap_status lyap_writer_put_layers(struct lyap_store *store,
                                        const struct lyap_layer_batch *batch)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_TRIM_LAYERS);
    lyap_bind_int(&bind, batch->run_id);
    lyap_bind_int(&bind, batch->attempt);
    lyap_bind_int(&bind, batch->count);
    enum lyap_status status = lyap_sql_run(&bind, lyap_writer_call(writer));
    for (uint32_t i = 0; status == LYAP_OK && i < batch->count; i++)
        status = put_row(writer, batch, &batch->rows[i]);
    return status == LYAP_E_CONFLICT ? LYAP_E_NOT_FOUND : status; /* the attempt */
}

void lyap_decode_layer(struct lyap_row *row, struct lyap_record *ret_record)
{
    struct lyap_layer_record *layer = &ret_record->u.layer;
    ret_record->key = lyap_row_int(row);
    layer->row.layer = (uint32_t)ret_record->key;
    layer->step = lyap_row_int(row);
    layer->name = lyap_row_text(row);
    layer->kind = lyap_row_text(row);
    layer->method = lyap_row_text(row);
    layer->row.bound_step = lyap_row_step(row);
    marks_read(lyap_row_text(row), &layer->row);
    for (unsigned i = 0; i < LYAP_LAYER_METRIC_COUNT; i++) {
        layer->row.values[i].value = lyap_row_double(row);
        layer->row.values[i].error = NAN;
    }
}
