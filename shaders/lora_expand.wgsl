// LoRA, second half: out[r][at + c] += sum_i shrunk[r][first(j) + i] * b[adapter of r][i][j], j = begin + c, c below count, for rows that go
//   through an adapter; others are left as they are, bit for bit. first(j) = rank * number of the target that column j belongs to.
// Layout:    shrunk [rows][stride] f32, of which each target has rank columns; b [adapter][rank][columns] f32, with alpha / rank in it;
//            out [rows][columns] f32. Where out keeps the columns in the order of b, begin = at = 0 and count = columns.
// Sums:      f32 by fma, i ascending; then added to the old value.
// Constants: ROWS, WORKGROUP, SLOT_STRIDE, SLOT_LORA. One thread a column and ROWS rows; the same in all variants. Features: none.
// Bindings:  0 rows (slot, position, token, active); 1 slots; 2 shrunk; 3 b; 4 out; 8 shape.
struct Shape {
  rank: u32,
  columns: u32,
  stride: u32,
  // first columns of the second and third target; `columns` where there are fewer
  second: u32,
  third: u32,
  begin: u32,
  at: u32,
  count: u32,
}

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read> shrunk: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(8) var<uniform> shape: Shape;
#include "lib/lora.wgsl"

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let column = shape.begin + id.x;
  let row = id.y * ROWS;
  if (id.x >= shape.count) {
    return;
  }
#include "lib/lora_rows.wgsl"
  let first = shape.rank * (u32(column >= shape.second) + u32(column >= shape.third));
#for r in 0..ROWS
  var sum_${r} = 0.0;
#endfor
#for r in 0..ROWS
  if (leads_${r}) {
    let start = (adapter_${r} - 1) * shape.rank;
    for (var i = 0u; i < shape.rank; i++) {
      let b_i = b[(start + i) * shape.columns + column];
#for s in r..ROWS
      if (adapter_${s} == adapter_${r}) {
        sum_${s} = fma(shrunk[(row + ${s}) * shape.stride + first + i], b_i, sum_${s});
      }
#endfor
    }
  }
#endfor
#for r in 0..ROWS
  if (adapter_${r} != 0) {
    out[(row + ${r}) * shape.columns + shape.at + id.x] += sum_${r};
  }
#endfor
}
