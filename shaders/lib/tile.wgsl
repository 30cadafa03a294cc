// Body of a matrix product's thread: sum_R_C = the thread's share of input[row + R] . weight[line_C].
// Order of a sum (batch invariance rests on it): k is cut into chunks of 8 (of 1 where k is no multiple of 8); the
// thread takes chunks `first`, `first` + LANES, ... and adds their products one by one, k ascending, by fma. Neither
// ROWS nor COLUMNS nor the other rows touch a row's order.
// Needs: lib/product.wgsl, lib/tile_place.wgsl, `line_C` (weight rows), constants ROWS, COLUMNS, LANES, QUADS, DTYPE.
#for r in 0..ROWS
#for c in 0..COLUMNS
  var sum_${r}_${c} = 0.0;
#endfor
#endfor
#if QUADS
  let chunks = shape.k / 8;
  for (var chunk = first; chunk < chunks; chunk += LANES) {
#for c in 0..COLUMNS
#if DTYPE == 0
    let at_${c} = (line_${c} * chunks + chunk) * 2;
    let w_${c} = unpack_eight(weight[at_${c}], weight[at_${c} + 1]);
#else
    let w_${c} = unpack_eight(weight[line_${c} * chunks + chunk]);
#endif
#endfor
#for r in 0..ROWS
    {
      let at = ((row + ${r}) * chunks + chunk) * 2;
      let low = input[at];
      let high = input[at + 1];
#for c in 0..COLUMNS
      sum_${r}_${c} = fma(low.x, w_${c}.low.x, sum_${r}_${c});
      sum_${r}_${c} = fma(low.y, w_${c}.low.y, sum_${r}_${c});
      sum_${r}_${c} = fma(low.z, w_${c}.low.z, sum_${r}_${c});
      sum_${r}_${c} = fma(low.w, w_${c}.low.w, sum_${r}_${c});
      sum_${r}_${c} = fma(high.x, w_${c}.high.x, sum_${r}_${c});
      sum_${r}_${c} = fma(high.y, w_${c}.high.y, sum_${r}_${c});
      sum_${r}_${c} = fma(high.z, w_${c}.high.z, sum_${r}_${c});
      sum_${r}_${c} = fma(high.w, w_${c}.high.w, sum_${r}_${c});
#endfor
    }
#endfor
  }
#else
  let length = shape.k;
  for (var k = first; k < length; k += LANES) {
#for c in 0..COLUMNS
    let w_${c} = weight_at(line_${c} * length + k);
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
  // Sum (r, c) goes to partial[(r * COLUMNS + c) * LANES]; lanes below ROWS * WIDTH then write one output each.
#for r in 0..ROWS
#for c in 0..COLUMNS
  partial[${r * COLUMNS + c} * LANES + lane] = sum_${r}_${c};
#endfor
#endfor
  reduce_lanes(lane);
  let own_row = row + lane / WIDTH;
  let own_column = column + lane % WIDTH;
#endif
