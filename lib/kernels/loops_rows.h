/* loops_rows.h - the part of loops.h that works on whole rows of a matrix, F32 in place or doubles:
 * products with a few vectors, sums of magnitudes. Part of loops.h, not a general header.
 * THREADS: pure functions. */
#ifndef LYAP_LOOPS_ROWS_H
#define LYAP_LOOPS_ROWS_H

enum {
    ROW_TILE = 4,   /* rows that share each read of the vectors */
    VECTOR_TILE = 4 /* vectors at once: 16 sums stay in registers */
};

/* Register and element `index` of rows of either type. */
INLINE real load_row(const void *rows, size_t index, bool is_f32)
{
    return is_f32 ? load_f32(rows, index) : load((const double *)rows + index);
}

INLINE double row_element(const void *rows, size_t index, bool is_f32)
{
    if (!is_f32)
        return ((const double *)rows)[index];
    float value;
    memcpy(&value, (const unsigned char *)rows + index * sizeof value, sizeof value);
    return value;
}

/* What is known when a loop is compiled. */
struct rows_form {
    bool is_f32;
    uint32_t rows, vectors;
};

/* <w_r, v_j> of a tile, each row's elements in its own lanes. */
INLINE void rows_dot(const void *rows, size_t cols, const double *v, struct rows_form form,
                     double ret[ROW_TILE][VECTOR_TILE])
{
    struct lyap_lanes lanes[ROW_TILE][VECTOR_TILE];
    const size_t whole = cols - cols % LYAP_LANES;
    for (int part = 0; part < PARTS; part++) {
        real sums[ROW_TILE][VECTOR_TILE] = { 0 };
        for (size_t i = (size_t)part * WIDTH; i < whole; i += LYAP_LANES) {
            real w[ROW_TILE];
            for (uint32_t r = 0; r < form.rows; r++)
                w[r] = load_row(rows, r * cols + i, form.is_f32);
            for (uint32_t j = 0; j < form.vectors; j++) {
                const real x = load(v + j * cols + i);
                for (uint32_t r = 0; r < form.rows; r++)
                    sums[r][j] += w[r] * x;
            }
        }
        for (uint32_t r = 0; r < form.rows; r++)
            for (uint32_t j = 0; j < form.vectors; j++)
                store(lanes[r][j].lane + part * WIDTH, sums[r][j]);
    }
    for (uint32_t r = 0; r < form.rows; r++)
        for (uint32_t j = 0; j < form.vectors; j++) {
            for (size_t i = whole; i < cols; i++)
                lanes[r][j].lane[i - whole] +=
                    row_element(rows, r * cols + i, form.is_f32) * v[j * cols + i];
            ret[r][j] = lyap_lanes_total(&lanes[r][j]);
        }
}

/* z_j += sum over the rows of q[r][j] w_r, row after row. */
INLINE void rows_spread(const void *rows, size_t cols, double q[ROW_TILE][VECTOR_TILE],
                        struct rows_form form, double *z)
{
    const size_t whole = cols - cols % LYAP_LANES;
    for (size_t i = 0; i < whole; i += WIDTH) {
        real w[ROW_TILE];
        for (uint32_t r = 0; r < form.rows; r++)
            w[r] = load_row(rows, r * cols + i, form.is_f32);
        for (uint32_t j = 0; j < form.vectors; j++) {
            real sum = load(z + j * cols + i);
            for (uint32_t r = 0; r < form.rows; r++)
                sum += q[r][j] * w[r];
            store(z + j * cols + i, sum);
        }
    }
    for (size_t i = whole; i < cols; i++)
        for (uint32_t j = 0; j < form.vectors; j++)
            for (uint32_t r = 0; r < form.rows; r++)
                z[j * cols + i] += q[r][j] * row_element(rows, r * cols + i, form.is_f32);
}

INLINE void rows_tile(const void *rows, const struct lyap_projection *p, uint32_t first,
                      struct rows_form form)
{
    double q[ROW_TILE][VECTOR_TILE];
    rows_dot(rows, p->cols, p->v + first * p->cols, form, q);
    rows_spread(rows, p->cols, q, form, p->z + first * p->cols);
}

/* All vectors over one tile of rows: four, two and one at a time. */
INLINE void rows_vectors(const void *rows, uint32_t count, bool is_f32,
                         const struct lyap_projection *p)
{
    uint32_t first = 0;
    for (; first + 4 <= p->block; first += 4)
        rows_tile(rows, p, first, (struct rows_form){ is_f32, count, 4 });
    if (first + 2 <= p->block) {
        rows_tile(rows, p, first, (struct rows_form){ is_f32, count, 2 });
        first += 2;
    }
    if (first < p->block)
        rows_tile(rows, p, first, (struct rows_form){ is_f32, count, 1 });
}

INLINE void rows_marks(const void *rows, uint64_t row, const struct lyap_projection *p,
                       struct rows_form form)
{
    double signs[ROW_TILE][VECTOR_TILE];
    for (uint32_t r = 0; r < form.rows; r++)
        for (uint32_t k = 0; k < form.vectors; k++)
            signs[r][k] = lyap_row_sign(row + r, k);
    rows_spread(rows, p->cols, signs, form, p->marks);
}

/* All of a tile while it is near. */
INLINE void rows_project(const void *rows, uint64_t row, uint32_t count, bool is_f32,
                         const struct lyap_projection *p)
{
    rows_vectors(rows, count, is_f32, p);
    if (p->marks)
        rows_marks(rows, row, p, (struct rows_form){ is_f32, count, LYAP_SPECTRAL_MARKS });
}

INLINE void project(const void *rows, size_t count, bool is_f32, const struct lyap_projection *p)
{
    const size_t row_bytes = p->cols * (is_f32 ? sizeof(float) : sizeof(double));
    const unsigned char *at = rows;
    uint64_t row = p->row;
    for (; count >= ROW_TILE; count -= ROW_TILE, at += ROW_TILE * row_bytes, row += ROW_TILE)
        rows_project(at, row, ROW_TILE, is_f32, p);
    for (; count > 0; count--, at += row_bytes, row++)
        rows_project(at, row, 1, is_f32, p);
}

static void project_f32(const void *rows, size_t count, const struct lyap_projection *p)
{
    project(rows, count, true, p);
}

static void project_f64(const void *rows, size_t count, const struct lyap_projection *p)
{
    project(rows, count, false, p);
}

/* One row into the sums of columns; its own sums against the largest so far. */
INLINE void magnitude_row(const void *row, size_t cols, bool is_f32,
                          struct lyap_magnitude_sums *sums)
{
    struct sum abs = { 0 }, sq = { 0 };
    struct lyap_lanes abs_lanes, sq_lanes;
    const size_t whole = cols - cols % LYAP_LANES;
    for (size_t i = 0; i < whole; i += LYAP_LANES)
        for (int p = 0; p < PARTS; p++) {
            const size_t at = i + (size_t)(p * WIDTH);
            const real x = load_row(row, at, is_f32), size = magnitude(x);
            abs.part[p] += size;
            sq.part[p] += x * x;
            store(sums->columns + at, load(sums->columns + at) + size);
        }
    sum_store(&abs_lanes, &abs);
    sum_store(&sq_lanes, &sq);
    for (size_t i = whole; i < cols; i++) {
        const double x = row_element(row, i, is_f32);
        abs_lanes.lane[i - whole] += fabs(x);
        sq_lanes.lane[i - whole] += x * x;
        sums->columns[i] += fabs(x);
    }
    const double abs_total = lyap_lanes_total(&abs_lanes), sq_total = lyap_lanes_total(&sq_lanes);
    sums->row_abs = abs_total > sums->row_abs ? abs_total : sums->row_abs;
    sums->row_sq = sq_total > sums->row_sq ? sq_total : sums->row_sq;
}

static void magnitudes_f32(const void *rows, size_t count, size_t cols,
                           struct lyap_magnitude_sums *sums)
{
    for (size_t r = 0; r < count; r++)
        magnitude_row((const unsigned char *)rows + r * cols * sizeof(float), cols, true, sums);
}

static void magnitudes_f64(const void *rows, size_t count, size_t cols,
                           struct lyap_magnitude_sums *sums)
{
    for (size_t r = 0; r < count; r++)
        magnitude_row((const double *)rows + r * cols, cols, false, sums);
}

#endif
