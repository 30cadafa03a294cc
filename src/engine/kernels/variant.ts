/**
 * Families of kernels. `scalar`: for software adapters, where barriers and workgroup memory are slow: every thread works
 * alone. `wide`: for GPUs: a workgroup shares each sum. Within a family a row's sums never depend on the batch
 * (batch invariance); between the two the last bits differ.
 */
export type KernelVariant = 'scalar' | 'wide';

/** The one place where the family is chosen. */
export function chooseVariant(software: boolean): KernelVariant {
  return software ? 'scalar' : 'wide';
}

/** The one place where it is chosen whether matrix instructions are used: their order of sums depends on the number of rows. */
export function chooseMatrices(available: boolean, batchInvariant: boolean): boolean {
  return available && !batchInvariant;
}
