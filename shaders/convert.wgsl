// Floats as floats of another kind, in their order: weight[FIRST + i] = source[i] as TO.
// Rounding:  to bf16 to nearest, ties to even; to f16 as pack2x16float has it, +-65504 at most: numbers beyond are counted in `clamped`.
// Layout:    source [2 pairs] as FROM, weight as TO (lib/dtype.wgsl: 0 f32, 1 bf16, 2 f16). One thread two numbers. Features: none.
// Constants: FROM, TO, WORKGROUP.
// Bindings:  0 place (pairs of numbers in `source`, pairs before them in `weight`, threads in one row of workgroups); 1 source; 2 weight; 3 clamped.
#include "lib/float16.wgsl"

struct Place {
  pairs: u32,
  first: u32,
  grid: u32,
}
@group(0) @binding(0) var<storage, read> place: Place;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> weight: array<u32>;
@group(0) @binding(3) var<storage, read_write> clamped: atomic<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pair = id.y * place.grid + id.x;
  if (pair >= place.pairs) {
    return;
  }
#if FROM == 0
  let numbers = vec2(bitcast<f32>(source[2 * pair]), bitcast<f32>(source[2 * pair + 1]));
#endif
#if FROM == 1
  let numbers = unpack_bf16(source[pair]);
#endif
#if FROM == 2
  let numbers = unpack_f16(source[pair]);
#endif
  let at = place.first + pair;
#if TO == 0
  weight[2 * at] = bitcast<u32>(numbers.x);
  weight[2 * at + 1] = bitcast<u32>(numbers.y);
#endif
#if TO == 1
  weight[at] = pack_bf16(numbers);
#endif
#if TO == 2
  let beyond = vec2<u32>(abs(numbers) > vec2(F16_MAX));
  if (beyond.x + beyond.y > 0) {
    atomicAdd(&clamped, beyond.x + beyond.y);
  }
  weight[at] = pack_f16(numbers);
#endif
}
