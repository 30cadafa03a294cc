// Multiplies and adds without reading: the most f32 arithmetic that an adapter gives to WGSL.
//   out[thread] = the sum of 8 x 4 chains of ROUNDS fused multiplications and additions, whose values stay near 1
// Layout: out [threads] f32. f32 only. Features: none. Constants: ROUNDS, WG (threads of a workgroup).
@group(0) @binding(0) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  // Taken from memory, so that nothing is known when this is compiled.
  let factor = vec4<f32>(0.999 + 1.0e-9 * out[id.x]);
#for v in 0..8
  var sum_${v} = vec4<f32>(f32(id.x % 7) + ${v});
#endfor
  for (var round = 0u; round < ROUNDS; round++) {
#for v in 0..8
    sum_${v} = fma(sum_${v}, factor, vec4<f32>(0.001));
#endfor
  }
  var all = vec4<f32>();
#for v in 0..8
  all += sum_${v};
#endfor
  out[id.x] = all.x + all.y + all.z + all.w;
}
