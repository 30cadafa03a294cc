// Counter-based random numbers: Threefry-4x32-20 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as
// 1, 2, 3; SC 2011). It needs only 32-bit additions, rotations and xors, all exact, so that every adapter draws the same.
// key = (seed low, seed high, choice, offset), counter = (id / 4, 0, 0, 0); word id % 4 belongs to the id.

fn rotate(x: vec2<u32>, left: vec2<u32>) -> vec2<u32> {
  return (x << left) | (x >> (vec2<u32>(32u) - left));
}

fn threefry(counter: vec4<u32>, key: vec4<u32>) -> vec4<u32> {
  let k4 = 0x1bd11bdau ^ key.x ^ key.y ^ key.z ^ key.w;
  // Even words, odd words: a round adds odds to evens, rotates the odds and xors the evens into them.
  var even = counter.xz + key.xz;
  var odd = counter.yw + key.yw;
  #for pair in 0..5
  {
    #if pair % 2 == 0
    let turns = array(vec2(10u, 26u), vec2(11u, 21u), vec2(13u, 27u), vec2(23u, 5u));
    #else
    let turns = array(vec2(6u, 20u), vec2(17u, 11u), vec2(25u, 10u), vec2(18u, 20u));
    #endif
    #for half in 0..2
    even += odd;
    odd = rotate(odd, turns[${2 * half}]) ^ even;
    // The odd words change places for every other round.
    even += odd.yx;
    odd = (rotate(odd.yx, turns[${2 * half + 1}]) ^ even).yx;
    #endfor
    #if pair == 0
    even += vec2(key.y, key.w);
    odd += vec2(key.z, k4 + 1u);
    #endif
    #if pair == 1
    even += vec2(key.z, k4);
    odd += vec2(key.w, key.x + 2u);
    #endif
    #if pair == 2
    even += vec2(key.w, key.x);
    odd += vec2(k4, key.y + 3u);
    #endif
    #if pair == 3
    even += vec2(k4, key.y);
    odd += vec2(key.x, key.z + 4u);
    #endif
    #if pair == 4
    even += vec2(key.x, key.z);
    odd += vec2(key.y, key.w + 5u);
    #endif
  }
  #endfor
  return vec4<u32>(even.x, odd.x, even.y, odd.y);
}

// The largest value of `gumbel`: that of bits = 0.
const GUMBEL_MAX = 22.9f;

// Standard Gumbel noise, -log(-log(1 - u)), u = (bits + 0.5) / 2^32. The winner of an argmax over many ids has a small u:
// f32 is precise there, and a series replaces log(1 - u), which is not.
fn gumbel(bits: vec4<u32>) -> vec4<f32> {
  let u = min((vec4<f32>(bits) + 0.5) * 0x1p-32f, vec4<f32>(1.0 - 0x1p-24f));
  let series = u * (1.0 + u * (0.5 + u * (1.0 / 3.0)));
  return -log(select(-log(1.0 - u), series, u < vec4<f32>(0.015625)));
}
