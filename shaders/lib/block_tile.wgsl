// Body of a matrix product for many rows: a workgroup of TX x TY threads computes TY * 4 * ROW_GROUPS rows by TX * 4 * LINE_GROUPS weight
// rows (lines), its operands staged in workgroup memory, DEPTH numbers of k at a time. Thread (tx, ty) holds total_G_R_H: rows
// (G * TY + ty) * 4 + R of the block times the four lines from slot (H * TX + tx) * 4 on.
// Order of a sum: that of lib/tile.wgsl, by fma, k ascending within each of the SEGMENTS runs, then the runs ascending.
// Needs: lib/product.wgsl (QUADS), `group` (workgroup id), `thread`, fn line_of(slot) -> weight row, and constants TX, TY, ROW_GROUPS,
// LINE_GROUPS, BLOCK_ROWS, BLOCK_LINES (multiples of 32), DEPTH (8, 16 or 32; divides every run), SEGMENTS, DTYPE.
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
  // What a thread loads: four rows by four k, turned around on their way into workgroup memory, and four lines by eight k. Eight threads side by
  // side have eight fours, so that they write to different banks, and the next eight the next k, so that together they read whole lines of cache.
  // Where there are more threads than parts, some load for nothing: of lines the first ones, of rows the last.
#for i in 0..(BLOCK_ROWS * DEPTH / 16 + THREADS - 1) / THREADS
  let input_part_${i} = thread + ${i} * THREADS;
  let input_four_${i} = input_part_${i} % 8 + input_part_${i} / (2 * DEPTH) * 8;
  let input_quad_${i} = input_part_${i} / 8 % (DEPTH / 4);
  let input_at_${i} = (first_row + input_four_${i} * 4) * chunks * 2 + input_quad_${i};
#for r in 0..4
  var next_input_${i}_${r} = input[input_at_${i} + ${r} * chunks * 2];
#endfor
#endfor
#for i in 0..(BLOCK_LINES * DEPTH / 32 + THREADS - 1) / THREADS
  let line_part_${i} = (thread + THREADS / 2) % THREADS + ${i} * THREADS;
  let line_four_${i} = line_part_${i} % 8 + line_part_${i} / DEPTH * 8;
  let line_chunk_${i} = line_part_${i} / 8 % (DEPTH / 8);
#for r in 0..4
  let line_${i}_${r} = line_of(line_four_${i} * 4 + ${r}, first_column);
  var next_line_${i}_${r} = weight_eight(line_${i}_${r}, line_chunk_${i});
#endfor
#endfor
  for (var chunk = 0u; chunk < chunks; chunk += DEPTH / 8) {
#for i in 0..(BLOCK_ROWS * DEPTH / 16 + THREADS - 1) / THREADS
    if (input_part_${i} < BLOCK_ROWS * DEPTH / 16) {
#for c in 0..4
      input_tile[(input_quad_${i} * 4 + ${c}) * (BLOCK_ROWS / 4) + input_four_${i}] =
        vec4(next_input_${i}_0[${c}], next_input_${i}_1[${c}], next_input_${i}_2[${c}], next_input_${i}_3[${c}]);
#endfor
    }
#endfor
#for i in 0..(BLOCK_LINES * DEPTH / 32 + THREADS - 1) / THREADS
    if (line_part_${i} < BLOCK_LINES * DEPTH / 32) {
#for c in 0..4
      line_tile[(line_chunk_${i} * 8 + ${c}) * (BLOCK_LINES / 4) + line_four_${i}] =
        vec4(next_line_${i}_0.low[${c}], next_line_${i}_1.low[${c}], next_line_${i}_2.low[${c}], next_line_${i}_3.low[${c}]);
      line_tile[(line_chunk_${i} * 8 + 4 + ${c}) * (BLOCK_LINES / 4) + line_four_${i}] =
        vec4(next_line_${i}_0.high[${c}], next_line_${i}_1.high[${c}], next_line_${i}_2.high[${c}], next_line_${i}_3.high[${c}]);
#endfor
    }
#endfor
    workgroupBarrier();
    // Under way while this tile is summed; the last one is read again, for nothing.
    let next = min(chunk + DEPTH / 8, chunks - DEPTH / 8);
#for i in 0..(BLOCK_ROWS * DEPTH / 16 + THREADS - 1) / THREADS
#for r in 0..4
    next_input_${i}_${r} = input[input_at_${i} + ${r} * chunks * 2 + next * 2];
#endfor
#endfor
#for i in 0..(BLOCK_LINES * DEPTH / 32 + THREADS - 1) / THREADS
#for r in 0..4
    next_line_${i}_${r} = weight_eight(line_${i}_${r}, line_chunk_${i} + next);
#endfor
#endfor
#for k in 0..DEPTH
    {
#for h in 0..LINE_GROUPS
      let w_${h} = line_tile[${k} * (BLOCK_LINES / 4) + ${h} * TX + tx];
#endfor
#for g in 0..ROW_GROUPS
      {
        let x = input_tile[${k} * (BLOCK_ROWS / 4) + ${g} * TY + ty];
#for r in 0..4
#for h in 0..LINE_GROUPS
        run_${g}_${r}_${h} = fma(vec4(x[${r}]), w_${h}, run_${g}_${r}_${h});
#endfor
#endfor
      }
#endfor
    }
#endfor
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
