// sin and cos of position * frequency (radians), to about 1e-7 at any position: WGSL promises sin and cos only within
// [-pi, pi], to 2^-11, and a f32 product at position 40,000 is off by 0.002 radians before that.
// So the angle is counted in turns, in integers: frequency / 2pi as a fraction of 64 bits, times the position, modulo 1.
// Then the Taylor series in [-pi/4, pi/4] (next terms below 2e-9 and 3e-8) and the quadrant.
// frequency: positive, at least 2^-70 and below 4 (rotary embeddings: at most 1).

/// Bits 32 to 63 of a * b.
fn multiply_high(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u);
}

/// frequency / 2pi in units of 2^-64 turns, as (high, low) words.
fn turns_of(frequency: f32) -> vec2<u32> {
  // 1 / 2pi in units of 2^-64.
  let unit = vec2(0x28be60dbu, 0x9391054au);
  let bits = bitcast<u32>(frequency);
  let mantissa = (bits & 0x7fffffu) | 0x800000u;
  // frequency = mantissa * 2^-shift; the product below is mantissa / 2pi in units of 2^-64, three words.
  let shift = 150u - (bits >> 23u);
  let low = mantissa * unit.y;
  let carry = multiply_high(mantissa, unit.y);
  let middle = mantissa * unit.x + carry;
  let high = multiply_high(mantissa, unit.x) + select(0u, 1u, middle < carry);
  // Shifted right by whole words first, then by the rest; << 1 << (31 - n) is << (32 - n) without the case n = 0.
  var words = vec3(high, middle, low);
  if (shift >= 64u) {
    words = vec3(0u, 0u, high);
  } else if (shift >= 32u) {
    words = vec3(0u, high, middle);
  }
  let n = shift % 32u;
  return vec2(
    (words.y >> n) | ((words.x << 1u) << (31u - n)),
    (words.z >> n) | ((words.y << 1u) << (31u - n)),
  );
}

/// (cos, sin) of position * frequency.
fn cos_sin(position: u32, frequency: f32) -> vec2<f32> {
  let turns = turns_of(frequency);
  // In units of 2^-32 turns; whole turns overflow away.
  let angle = position * turns.x + multiply_high(position, turns.y);
  let quadrant = (angle + 0x20000000u) >> 30u;
  let x = f32(bitcast<i32>(angle - (quadrant << 30u))) * 1.4629180792671596e-9;  // 2pi / 2^32
  let y = x * x;
  let sine = x * fma(y, fma(y, fma(y, fma(y, 1.0 / 362880.0, -1.0 / 5040.0), 1.0 / 120.0), -1.0 / 6.0), 1.0);
  let cosine = fma(y, fma(y, fma(y, fma(y, 1.0 / 40320.0, -1.0 / 720.0), 1.0 / 24.0), -0.5), 1.0);
  let turned = select(vec2(cosine, sine), vec2(-sine, cosine), quadrant % 2u == 1u);
  return select(turned, -turned, quadrant >= 2u);
}
