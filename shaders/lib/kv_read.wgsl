// K and V of one KV head at one position, as attention reads them: by eights of dimensions, as words or as numbers.
// DTYPE 3: `stored_` gives integers, to be multiplied by the head's scale; the others have it in them, which rounds nothing
// (lib/kv_int8.wgsl): so that sums of the same numbers in the same order are the same bits, whichever kernel takes them.
// Needs: what lib/kv.wgsl needs. Bindings: 3 kPool; 4 vPool.
#include "lib/dtype.wgsl"
#include "lib/kv.wgsl"
#if DTYPE == 3
#include "lib/kv_int8.wgsl"

@group(0) @binding(3) var<storage, read> k_pool: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> v_pool: array<vec2<u32>>;

/// An eight as it is stored.
alias Words = vec2<u32>;

struct KvHead {
  word: u32,
  key_scale: f32,
  value_scale: f32,
}

fn kv_head(slot: u32, position: u32, head: u32) -> KvHead {
  let place = kv_place(slot, position, head);
  let word = place.scale / 2;
  let shift = place.scale % 2 * 16;
  return KvHead(
    place.word,
    scale_from((k_pool[word / 2][word % 2] >> shift) & 0xffffu),
    scale_from((v_pool[word / 2][word % 2] >> shift) & 0xffffu),
  );
}

fn key_scale(head: KvHead) -> f32 {
  return head.key_scale;
}

fn value_scale(head: KvHead) -> f32 {
  return head.value_scale;
}

fn key_words(head: KvHead, eight: u32) -> Words {
  return k_pool[head.word / 2 + eight];
}

fn value_words(head: KvHead, eight: u32) -> Words {
  return v_pool[head.word / 2 + eight];
}

fn stored(words: Words) -> Eight {
  return Eight(signed_bytes(words.x), signed_bytes(words.y));
}

fn scaled(eight: Eight, scale: f32) -> Eight {
  return Eight(eight.low * scale, eight.high * scale);
}
#else

@group(0) @binding(3) var<storage, read> k_pool: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> v_pool: array<vec4<u32>>;

struct KvHead {
  word: u32,
}

fn kv_head(slot: u32, position: u32, head: u32) -> KvHead {
  return KvHead(kv_place(slot, position, head).word);
}

fn key_scale(head: KvHead) -> f32 {
  return 1.0;
}

fn value_scale(head: KvHead) -> f32 {
  return 1.0;
}

#if DTYPE == 0
struct Words {
  low: vec4<u32>,
  high: vec4<u32>,
}

fn key_words(head: KvHead, eight: u32) -> Words {
  return Words(k_pool[head.word / 4 + 2 * eight], k_pool[head.word / 4 + 2 * eight + 1]);
}

fn value_words(head: KvHead, eight: u32) -> Words {
  return Words(v_pool[head.word / 4 + 2 * eight], v_pool[head.word / 4 + 2 * eight + 1]);
}

fn stored(words: Words) -> Eight {
  return unpack_eight(words.low, words.high);
}
#else
alias Words = vec4<u32>;

fn key_words(head: KvHead, eight: u32) -> Words {
  return k_pool[head.word / 4 + eight];
}

fn value_words(head: KvHead, eight: u32) -> Words {
  return v_pool[head.word / 4 + eight];
}

fn stored(words: Words) -> Eight {
  return unpack_eight(words);
}
#endif

fn scaled(eight: Eight, scale: f32) -> Eight {
  return eight;
}
#endif

fn stored_key(head: KvHead, eight: u32) -> Eight {
  return stored(key_words(head, eight));
}

fn stored_value(head: KvHead, eight: u32) -> Eight {
  return stored(value_words(head, eight));
}

fn key_eight(head: KvHead, eight: u32) -> Eight {
  return scaled(stored_key(head, eight), key_scale(head));
}

fn value_eight(head: KvHead, eight: u32) -> Eight {
  return scaled(stored_value(head, eight), value_scale(head));
}
