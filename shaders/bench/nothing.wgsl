// One thread adds 1 to one word: the least a dispatch can do. Its time is the price of a dispatch.
// Layout: counter array<u32>. Features: none. Constants: none.

@group(0) @binding(0) var<storage, read_write> counter: array<u32>;

@compute @workgroup_size(1)
fn main() {
  counter[0] += 1u;
}
