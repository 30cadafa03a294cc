// Which outputs a thread (scalar) or a workgroup (wide) computes: ROWS rows from `row`, WIDTH columns of `out` from `column`; none
// where the tile lies outside. `first`: the thread's first chunk of k.
// Needs: lib/product.wgsl, `group` (workgroup id), `lane`, `step`, constants ROWS, WIDTH, WORKGROUP, WIDE.
#if WIDE
  let column = (group.y * shape.grid + group.x) * WIDTH;
  let first = lane;
#else
  let column = ((group.y * shape.grid + group.x) * WORKGROUP + lane) * WIDTH;
  let first = 0u;
#endif
  let row = group.z * ROWS;
  let rows = step[shape.count_word];
  let n = shape.n;
  if (row >= rows || column >= n) {
    return;
  }
