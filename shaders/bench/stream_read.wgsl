// Reads a buffer once from end to end: the most that an adapter's memory gives to WGSL.
//   out[thread] = xor of the words that the thread read
// Layout: input array<vec4<u32>> of WORDS / 4 vectors, read in strides of all threads; u32 only. Features: none.
// Constants: VECTORS, THREADS (in all), WG (threads of a workgroup).

@group(0) @binding(0) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var acc = vec4<u32>(0u);
  for (var i = id.x; i < VECTORS; i += THREADS) {
    acc ^= input[i];
  }
  out[id.x] = acc.x ^ acc.y ^ acc.z ^ acc.w;
}
