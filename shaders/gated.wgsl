// Gated activation of what was computed apart: out[r][first + j] = act(gate_up[r][2 first + j]) * gate_up[r][2 first + n + j], j below n; act as
//   lib/activation.wgsl has it. With matmul.wgsl before it the same as gate_up.wgsl, bit for bit.
// Layout:    gate_up [rows][2 stride] f32, out [rows][stride] f32. n = stride where the weight is in one part, else one dispatch a part.
// Constants: COUNT_WORD, WORKGROUP, GELU. No sums; one thread an element, one row of workgroups a row. Features: none.
// Bindings:  0 step [COUNT_WORD] = rows in use; 1 gate_up; 2 out; 8 shape.
#include "lib/activation.wgsl"

struct Shape {
  n: u32,
  first: u32,
  stride: u32,
}

@group(0) @binding(0) var<storage, read> step: array<u32>;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(8) var<uniform> shape: Shape;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let n = shape.n;
  if (id.x >= n || id.y >= step[COUNT_WORD]) {
    return;
  }
  let at = 2 * (id.y * shape.stride + shape.first) + id.x;
  out[id.y * shape.stride + shape.first + id.x] = activate(gate_up[at]) * gate_up[at + n];
}
