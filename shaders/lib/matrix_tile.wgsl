// Body of a matrix product by matrix instructions: SUBGROUP_ROWS x SUBGROUP_COLUMNS x PARTS subgroups of a workgroup compute BLOCK_ROWS rows by
// BLOCK_LINES weight rows (lines), their operands rounded to f16 and staged in workgroup memory, DEPTH numbers of k at a time. A subgroup
// holds sum_R_C: TILE_ROWS x TILE_COLUMNS matrices of 16 x 16 sums. PARTS > 1: so many subgroups share a tile; of every PARTS x 16 numbers
// of k each takes 16, and who includes this adds up what they hold.
// Order of a sum: the hardware's within 16 numbers, in f32; then a part's k ascending; then parts. It is not that of lib/tile.wgsl.
// Needs: lib/matrix_product.wgsl (QUADS), `group` (workgroup id), `thread`, `subgroup`, `first_column`, fn line_of(slot, first_column) ->
// weight row, and constants SUBGROUP_ROWS, SUBGROUP_COLUMNS, TILE_ROWS, TILE_COLUMNS, PARTS, THREADS, DEPTH (divides k, a multiple of
// 16 PARTS).
  let first_row = group.z * BLOCK_ROWS;
  let rows = step[shape.count_word];
  let n = shape.n;
  if (first_row >= rows || first_column >= n) {
    return;
  }
  let chunks = shape.k / 8;
  let part = subgroup % PARTS;
  let tile = subgroup / PARTS;
  let tile_row = tile / SUBGROUP_COLUMNS * TILE_ROWS * MATRIX;
  let tile_line = tile % SUBGROUP_COLUMNS * TILE_COLUMNS * MATRIX;
#for r in 0..TILE_ROWS
#for c in 0..TILE_COLUMNS
#if DIRECT && ACCUMULATE
  var sum_${r}_${c} = subgroupMatrixLoad<Sum, row_major>(&out, (first_row + tile_row + ${r} * MATRIX) * shape.stride
    + shape.first + first_column + tile_line + ${c} * MATRIX, shape.stride);
#else
  var sum_${r}_${c} = Sum();
#endif
#endfor
#endfor
#for i in 0..BLOCK_ROWS * DEPTH / 8 / THREADS
  let input_slot_${i} = (thread + ${i} * THREADS) / (DEPTH / 8) * STRIDE + thread % (DEPTH / 8);
  let input_at_${i} = (first_row + (thread + ${i} * THREADS) / (DEPTH / 8)) * chunks + thread % (DEPTH / 8);
  var low_${i} = input[2 * input_at_${i}];
  var high_${i} = input[2 * input_at_${i} + 1];
#endfor
#for i in 0..BLOCK_LINES * DEPTH / 8 / THREADS
  let line_slot_${i} = (thread + ${i} * THREADS) / (DEPTH / 8) * STRIDE + thread % (DEPTH / 8);
  let line_${i} = line_of((thread + ${i} * THREADS) / (DEPTH / 8), first_column);
  var weights_${i} = weight_eight(line_${i}, thread % (DEPTH / 8));
#endfor
  for (var chunk = 0u; chunk < chunks; chunk += DEPTH / 8) {
#for i in 0..BLOCK_ROWS * DEPTH / 8 / THREADS
    input_tile[input_slot_${i}] = halves(Eight(low_${i}, high_${i}));
#endfor
#for i in 0..BLOCK_LINES * DEPTH / 8 / THREADS
    line_tile[line_slot_${i}] = halves(weights_${i});
#endfor
    workgroupBarrier();
    // Under way while this tile is multiplied; the last one is read again, for nothing.
    let next = min(chunk + DEPTH / 8, chunks - DEPTH / 8);
#for i in 0..BLOCK_ROWS * DEPTH / 8 / THREADS
    low_${i} = input[2 * (input_at_${i} + next)];
    high_${i} = input[2 * (input_at_${i} + next) + 1];
#endfor
#for i in 0..BLOCK_LINES * DEPTH / 8 / THREADS
    weights_${i} = weight_eight(line_${i}, thread % (DEPTH / 8) + next);
#endfor
#for k in 0..DEPTH / 16 / PARTS
    {
      let eight = 2 * (${k} * PARTS + part);
#for r in 0..TILE_ROWS
      let left_${r} = subgroupMatrixLoad<Left, row_major>(
        &input_tile, (tile_row + ${r} * MATRIX) * STRIDE + eight, STRIDE);
#endfor
#for c in 0..TILE_COLUMNS
      let right_${c} = subgroupMatrixLoad<Right, col_major>(
        &line_tile, (tile_line + ${c} * MATRIX) * STRIDE + eight, STRIDE);
#for r in 0..TILE_ROWS
      sum_${r}_${c} = subgroupMatrixMultiplyAccumulate(left_${r}, right_${c}, sum_${r}_${c});
#endfor
#endfor
    }
#endfor
    workgroupBarrier();
  }
