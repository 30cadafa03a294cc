// Which outputs a thread works for: ROWS rows from `row`, WIDTH columns of `out` from `column`; none where the tile lies outside.
// Scalar: alone. Wide: the LANES lanes of a workgroup are SEGMENTS runs of k (`segment`) times LANES / SEGMENTS column groups.
// Needs: lib/product.wgsl, `group` (workgroup id), `lane`, `step`, constants ROWS, WIDTH, WORKGROUP, WIDE, SEGMENTS, GROUP_WIDTH.
#if WIDE
  let first_column = (group.y * shape.grid + group.x) * GROUP_WIDTH;
  // Neighbours share their part of the input.
  let column = first_column + lane % (LANES / SEGMENTS) * WIDTH;
  let segment = lane / (LANES / SEGMENTS);
  let outside = first_column >= shape.n;
#else
  let column = ((group.y * shape.grid + group.x) * WORKGROUP + lane) * WIDTH;
  let segment = 0u;
  let outside = column >= shape.n;
#endif
  let row = group.z * ROWS;
#if ONE_ROW
  // Weights are read the sooner for not asking first.
  let rows = 1u;
#else
  let rows = step[shape.count_word];
#endif
  let n = shape.n;
  if (row >= rows || outside) {
    return;
  }
