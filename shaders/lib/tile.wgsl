// Body of a matrix product's thread: sum_R_C = the thread's share of input[row + R] . weight[line_C].
// Order of a sum (batch invariance rests on it): k is cut into chunks of 8 (of 1 where k is no multiple of 8), and the chunks into
// SEGMENTS runs of equal length, the last ones perhaps shorter or empty. A run is summed by fma, k ascending; then the runs are added,
// ascending. Neither ROWS nor COLUMNS nor the other rows touch a row's order; lib/block_tile.wgsl keeps the same.
// Needs: lib/product.wgsl, lib/tile_place.wgsl, `line_C` (weight rows), constants ROWS, COLUMNS, SEGMENTS, UNROLL (chunks at a time, a
// divisor of every run's length), ONE_PASS (every run has UNROLL chunks), NORM (the input comes from lib/norm_input.wgsl), LANES, QUADS, DTYPE.
#for r in 0..ROWS
#for c in 0..COLUMNS
  var sum_${r}_${c} = 0.0;
#endfor
#endfor
#if QUADS
  let chunks = shape.k / 8;
  let run_length = (chunks + SEGMENTS - 1) / SEGMENTS;
  let end = min((segment + 1) * run_length, chunks);
#if NORM && !ONE_PASS
  norm_input(lane);
#endif
#if ONE_PASS
  let chunk = segment * run_length;
  {
#else
  for (var chunk = segment * run_length; chunk < end; chunk += UNROLL) {
#endif
#if DTYPE >= 3 && UNROLL == 4
    // Runs of k begin at multiples of UNROLL chunks, and so at whole runs of numbers with one scale.
#for c in 0..COLUMNS
    let run_${c} = weight_run(line_${c}, chunk / 4);
#for u in 0..UNROLL
    let w_${u}_${c} = run_${c}.eight_${u};
#endfor
#endfor
#else
#for u in 0..UNROLL
#for c in 0..COLUMNS
    let w_${u}_${c} = weight_eight(line_${c}, chunk + ${u});
#endfor
#endfor
#endif
#if NORM && ONE_PASS
    // The weights are on their way meanwhile.
    norm_input(lane);
#endif
#for u in 0..UNROLL
#for r in 0..ROWS
    {
      let at = ((row + ${r}) * chunks + chunk + ${u}) * 2;
#if NORM
      let low = normed[at];
      let high = normed[at + 1];
#else
      let low = input[at];
      let high = input[at + 1];
#endif
#for c in 0..COLUMNS
      sum_${r}_${c} = fma(low.x, w_${u}_${c}.low.x, sum_${r}_${c});
      sum_${r}_${c} = fma(low.y, w_${u}_${c}.low.y, sum_${r}_${c});
      sum_${r}_${c} = fma(low.z, w_${u}_${c}.low.z, sum_${r}_${c});
      sum_${r}_${c} = fma(low.w, w_${u}_${c}.low.w, sum_${r}_${c});
      sum_${r}_${c} = fma(high.x, w_${u}_${c}.high.x, sum_${r}_${c});
      sum_${r}_${c} = fma(high.y, w_${u}_${c}.high.y, sum_${r}_${c});
      sum_${r}_${c} = fma(high.z, w_${u}_${c}.high.z, sum_${r}_${c});
      sum_${r}_${c} = fma(high.w, w_${u}_${c}.high.w, sum_${r}_${c});
#endfor
    }
#endfor
#endfor
  }
#else
  let length = shape.k;
  let run_length = (length + SEGMENTS - 1) / SEGMENTS;
  let end = min((segment + 1) * run_length, length);
  for (var k = segment * run_length; k < end; k++) {
#for c in 0..COLUMNS
    let w_${c} = weight_at(line_${c}, k);
#endfor
#for r in 0..ROWS
    {
      let x = input[(row + ${r}) * length + k];
#for c in 0..COLUMNS
      sum_${r}_${c} = fma(x, w_${c}, sum_${r}_${c});
#endfor
    }
#endfor
  }
#endif
#if WIDE
  // Lanes below ROWS * GROUP_WIDTH write one output each; `own_sum(c)` is one of its products.
#for r in 0..ROWS
#for c in 0..COLUMNS
  partial[${r * COLUMNS + c} * LANES + lane] = sum_${r}_${c};
#endfor
#endfor
  workgroupBarrier();
  let own_row = row + lane / GROUP_WIDTH;
  let own_column = first_column + lane % GROUP_WIDTH;
#endif
