import { BLOCK_STATES, cellStates, type PoolGrid, poolGrid } from './pool-grid.ts';

const MAX_HEIGHT = 120;
const GAP = 1;

/** Draws the block pool on a canvas, only the cells that changed. */
export class PoolPainter {
  private drawn: Uint8Array | null = null;
  private grid: PoolGrid | null = null;
  private colours: readonly string[] = [];
  private blocks = 0;

  constructor(private readonly canvas: HTMLCanvasElement) {}

  /** The next `paint` lays out and draws anew: the width or the colours changed. */
  forget(): void {
    this.drawn = null;
    this.grid = null;
  }

  paint(map: Uint8Array): void {
    if (!this.grid || this.blocks !== map.length) this.layOut(map.length);
    const context = this.canvas.getContext('2d');
    const { grid, drawn } = this;
    if (!context || !grid) return;
    const cells = cellStates(map, grid.blocksPerCell);
    const scale = this.canvas.width / (grid.columns * grid.pitch);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    for (const [cell, state] of cells.entries()) {
      if (drawn?.[cell] === state) continue;
      const x = (cell % grid.columns) * grid.pitch;
      const y = Math.floor(cell / grid.columns) * grid.pitch;
      const side = grid.pitch - GAP;
      context.clearRect(x, y, side, side);
      context.fillStyle = this.colours[state] ?? '';
      context.fillRect(x, y, side, side);
    }
    this.drawn = cells.slice();
  }

  private layOut(blocks: number): void {
    const { canvas } = this;
    const width = canvas.parentElement?.clientWidth ?? 0;
    if (width === 0) return;
    const grid = poolGrid(blocks, width, MAX_HEIGHT);
    const [across, down] = [grid.columns * grid.pitch, grid.rows * grid.pitch];
    const scale = Math.max(1, Math.round(devicePixelRatio));
    // Setting a size clears the canvas as well.
    canvas.width = across * scale;
    canvas.height = down * scale;
    canvas.style.width = `${across}px`;
    canvas.style.height = `${down}px`;
    const style = getComputedStyle(canvas);
    this.colours = BLOCK_STATES.map((state) => style.getPropertyValue(`--block-${state}`).trim());
    this.blocks = blocks;
    this.grid = grid;
    this.drawn = null;
  }
}
