import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** Whether two secrets are equal, in a time that tells nothing of where they differ. */
export function sameSecret(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

/** 192 random bits in letters that a URL takes as they are. */
export function newSecret(): string {
  return randomBytes(24).toString('base64url');
}
