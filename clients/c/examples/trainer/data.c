/* The digits data set. */
#include "data.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 256, PIXEL_MAX = 16 };

/* 0..16 for '0'..'9', 'a'..'g'; -1 for anything else. */
static int pixel_of(char c)
{
    static const char digits[] = "0123456789abcdefg";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static bool parse_line(const char *line, float *pixels, uint8_t *label)
{
    if (strlen(line) < DATA_PIXELS + 2 || line[DATA_PIXELS] != ' ')
        return false;
    for (int i = 0; i < DATA_PIXELS; i++) {
        const int value = pixel_of(line[i]);
        if (value < 0)
            return false;
        pixels[i] = (float)value / PIXEL_MAX;
    }
    const int digit = line[DATA_PIXELS + 1] - '0';
    *label = (uint8_t)digit;
    return digit >= 0 && digit < DATA_CLASSES;
}

static void standardise(struct data *data)
{
    const size_t count = (size_t)data->count * DATA_PIXELS;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++)
        sum += data->pixels[i];
    const double mean = sum / (double)count;
    for (size_t i = 0; i < count; i++)
        squares += (data->pixels[i] - mean) * (data->pixels[i] - mean);
    const double deviation = sqrt(squares / (double)count);
    for (size_t i = 0; i < count; i++)
        data->pixels[i] = (float)((data->pixels[i] - mean) / deviation);
}

bool data_load(const char *path, struct data *ret_data)
{
    char line[LINE_BYTES];
    bool is_ok = false;
    uint32_t number = 0;
    struct data data = { 0 };
    FILE *file = fopen(path, "r");
    data.pixels = malloc(sizeof(float) * DATA_SAMPLES_MAX * DATA_PIXELS);
    data.labels = malloc(DATA_SAMPLES_MAX);
    if (!file || !data.pixels || !data.labels) {
        fprintf(stderr, "trainer: %s: cannot be read\n", path);
        goto out;
    }
    while (fgets(line, sizeof line, file)) {
        number++;
        if (line[0] == '#')
            continue;
        if (data.count == DATA_SAMPLES_MAX ||
            !parse_line(line, data.pixels + (size_t)data.count * DATA_PIXELS,
                        data.labels + data.count)) {
            fprintf(stderr, "trainer: %s: line %" PRIu32 " is no digit\n", path, number);
            goto out;
        }
        data.count++;
    }
    if (data.count == 0) {
        fprintf(stderr, "trainer: %s: no digits\n", path);
        goto out;
    }
    standardise(&data);
    *ret_data = data;
    data = (struct data){ 0 };
    is_ok = true;
out:
    if (file)
        fclose(file);
    data_release(&data);
    return is_ok;
}

void data_release(struct data *data)
{
    free(data->pixels);
    free(data->labels);
    *data = (struct data){ 0 };
}
