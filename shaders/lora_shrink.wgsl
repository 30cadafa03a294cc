// LoRA, first half: out[r][j] = sum_k input[r][k] * a[adapter of r][j][k], for rows that go through an adapter; others are left as they are.
//   With lora_expand.wgsl: Hu et al. 2021, https://arxiv.org/abs/2106.09685.
// Layout:    input [rows][k] f32, a [adapter][columns][k] f32, out [rows][columns] f32. Read in quads where k is a multiple of 4.
// Sums:      f32 by fma. Each component of a quad is summed apart, quads ascending; then x + y + z + w in that order.
//            WIDE: lane l takes quads l, l + LANES, ...; the lanes' sums are added by halving (l with l + LANES / 2, then l + LANES / 4, ...).
//            A row's order depends on nothing but k and the variant: rows of other adapters may stand beside it.
// Variants:  scalar (LANES 1): a thread computes ROWS x COLUMNS outputs alone; no barriers. WIDE: the LANES lanes of a workgroup together.
// Constants: QUADS, ROWS, COLUMNS (divides columns), LANES, WORKGROUP, WIDE, SLOT_STRIDE, SLOT_LORA. Features: none.
// Bindings:  0 rows (slot, position, token, active); 1 slots; 2 input; 3 a; 4 out; 8 shape.
struct Shape {
  k: u32,
  columns: u32,
}

#if QUADS
alias Part = vec4<f32>;
const PART = 4u;

fn total(part: Part) -> f32 {
  return part.x + part.y + part.z + part.w;
}
#else
alias Part = f32;
const PART = 1u;

fn total(part: Part) -> f32 {
  return part;
}
#endif

@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
@group(0) @binding(2) var<storage, read> input: array<Part>;
@group(0) @binding(3) var<storage, read> a: array<Part>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(8) var<uniform> shape: Shape;
#include "lib/lora.wgsl"

#if WIDE
var<workgroup> partial: array<f32, LANES * ROWS * COLUMNS>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
#if WIDE
  let column = group.x * COLUMNS;
  let lane = thread;
#else
  let column = (group.x * WORKGROUP + thread) * COLUMNS;
  let lane = 0u;
#endif
  let row = group.y * ROWS;
  if (column >= shape.columns) {
    return;
  }
#include "lib/lora_rows.wgsl"
  let parts = shape.k / PART;
#for r in 0..ROWS
#for c in 0..COLUMNS
  var sum_${r}_${c} = Part();
#endfor
#endfor
#for r in 0..ROWS
  if (leads_${r}) {
#for c in 0..COLUMNS
    let line_${c} = ((adapter_${r} - 1) * shape.columns + column + ${c}) * parts;
#endfor
    for (var i = lane; i < parts; i += LANES) {
#for c in 0..COLUMNS
      let a_${c} = a[line_${c} + i];
#endfor
#for s in r..ROWS
      if (adapter_${s} == adapter_${r}) {
        let x = input[(row + ${s}) * parts + i];
#for c in 0..COLUMNS
        sum_${s}_${c} = fma(x, a_${c}, sum_${s}_${c});
#endfor
      }
#endfor
    }
  }
#endfor
#if WIDE
#for r in 0..ROWS
#for c in 0..COLUMNS
  partial[lane * ROWS * COLUMNS + ${r * COLUMNS + c}] = total(sum_${r}_${c});
#endfor
#endfor
  for (var half = LANES / 2u; half > 0; half /= 2) {
    workgroupBarrier();
    for (var i = lane; i < half * ROWS * COLUMNS; i += LANES) {
      partial[i] += partial[i + half * ROWS * COLUMNS];
    }
  }
  workgroupBarrier();
  if (lane < ROWS * COLUMNS && adapter_of(row + lane / COLUMNS) != 0) {
    out[(row + lane / COLUMNS) * shape.columns + column + lane % COLUMNS] = partial[lane];
  }
#else
#for r in 0..ROWS
  if (adapter_${r} != 0) {
#for c in 0..COLUMNS
    out[(row + ${r}) * shape.columns + column + ${c}] = total(sum_${r}_${c});
#endfor
  }
#endfor
#endif
}
