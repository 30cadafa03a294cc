// Body of a matrix product for many rows: a workgroup of TX x TY threads computes TY * 4 * ROW_GROUPS rows by TX * 4 * LINE_GROUPS weight
// rows (lines), its operands staged in workgroup memory, DEPTH numbers of k at a time. Thread (tx, ty) holds total_G_R_H: rows
// (G * TY + ty) * 4 + R of the block times the four lines from slot (H * TX + tx) * 4 on.
// Order of a sum: that of lib/tile.wgsl, by fma, k ascending within each of the SEGMENTS runs, then the runs ascending.
// Needs: lib/product.wgsl (QUADS), `group` (workgroup id), `thread`, fn line_of(slot) -> weight row, and constants TX, TY, ROW_GROUPS,
// LINE_GROUPS, DEPTH (8 or 16; divides every run), SEGMENTS, DTYPE.
  let tx = thread % TX;
  let ty = thread / TX;
  let first_row = group.z * BLOCK_ROWS;
  let rows = step[shape.count_word];
  let n = shape.n;
  if (first_row >= rows || first_column >= n) {
    return;
  }
  let chunks = shape.k / 8;
  let run_length = (chunks + SEGMENTS - 1) / SEGMENTS;
#for g in 0..ROW_GROUPS
#for r in 0..4
#for h in 0..LINE_GROUPS
  var total_${g}_${r}_${h} = vec4<f32>();
  var run_${g}_${r}_${h} = vec4<f32>();
#endfor
#endfor
#endfor
#for i in 0..(BLOCK_ROWS * DEPTH / 4 + THREADS - 1) / THREADS
  let input_row_${i} = (thread + ${i} * THREADS) % BLOCK_ROWS;
  let input_quad_${i} = min((thread + ${i} * THREADS) / BLOCK_ROWS, DEPTH / 4 - 1u);
  let input_at_${i} = (first_row + input_row_${i}) * chunks * 2 + input_quad_${i};
  var next_input_${i} = input[input_at_${i}];
#endfor
  // Where there are more threads than parts of a tile, some load the same part.
#for i in 0..(BLOCK_LINES * DEPTH / 8 + THREADS - 1) / THREADS
  let line_slot_${i} = (thread + ${i} * THREADS) % BLOCK_LINES;
  let line_chunk_${i} = min((thread + ${i} * THREADS) / BLOCK_LINES, DEPTH / 8 - 1u);
  let line_${i} = line_of(line_slot_${i}, first_column);
  var next_line_${i} = weight_eight(line_${i}, line_chunk_${i});
#endfor
  for (var chunk = 0u; chunk < chunks; chunk += DEPTH / 8) {
#for i in 0..(BLOCK_ROWS * DEPTH / 4 + THREADS - 1) / THREADS
#for j in 0..4
    input_tile[(input_quad_${i} * 4 + ${j}) * BLOCK_ROWS + input_row_${i}] = next_input_${i}[${j}];
#endfor
#endfor
#for i in 0..(BLOCK_LINES * DEPTH / 8 + THREADS - 1) / THREADS
#for j in 0..4
    line_tile[(line_chunk_${i} * 8 + ${j}) * BLOCK_LINES + line_slot_${i}] = next_line_${i}.low[${j}];
    line_tile[(line_chunk_${i} * 8 + 4 + ${j}) * BLOCK_LINES + line_slot_${i}] = next_line_${i}.high[${j}];
#endfor
#endfor
    workgroupBarrier();
    // Under way while this tile is summed; the last one is read again, for nothing.
    let next = min(chunk + DEPTH / 8, chunks - DEPTH / 8);
#for i in 0..(BLOCK_ROWS * DEPTH / 4 + THREADS - 1) / THREADS
    next_input_${i} = input[input_at_${i} + next * 2];
#endfor
#for i in 0..(BLOCK_LINES * DEPTH / 8 + THREADS - 1) / THREADS
    next_line_${i} = weight_eight(line_${i}, line_chunk_${i} + next);
#endfor
    for (var k = 0u; k < DEPTH; k++) {
#for h in 0..LINE_GROUPS
      let line_base_${h} = k * BLOCK_LINES + (${h} * TX + tx) * 4;
      let w_${h} = vec4(
        line_tile[line_base_${h}],
        line_tile[line_base_${h} + 1],
        line_tile[line_base_${h} + 2],
        line_tile[line_base_${h} + 3],
      );
#endfor
#for g in 0..ROW_GROUPS
#for r in 0..4
      {
        let x = vec4(input_tile[k * BLOCK_ROWS + (${g} * TY + ty) * 4 + ${r}]);
#for h in 0..LINE_GROUPS
        run_${g}_${r}_${h} = fma(x, w_${h}, run_${g}_${r}_${h});
#endfor
      }
#endfor
#endfor
    }
    workgroupBarrier();
    if ((chunk + DEPTH / 8) % run_length == 0 || chunk + DEPTH / 8 == chunks) {
#for g in 0..ROW_GROUPS
#for r in 0..4
#for h in 0..LINE_GROUPS
      total_${g}_${r}_${h} += run_${g}_${r}_${h};
      run_${g}_${r}_${h} = vec4<f32>();
#endfor
#endfor
#endfor
    }
  }
