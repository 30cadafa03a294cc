import { ggufModels, isPoolingFolder } from '../protocol/model-files.ts';

/** Files of a model that a person dropped or chose, and what to call the model. */
export interface PickedModel {
  readonly name: string;
  readonly files: readonly File[];
}

/** Most entries of a dropped folder; a folder of a model has far fewer. */
const MAX_ENTRIES = 4096;
const NO_FOLDER_NAME = 'local-model';
/** In the folder of a pooling module. */
const POOLING = 'config.json';

/** What was chosen with a file dialog: files, or a folder, of which the first level counts, and pooling modules in it. */
export function pickedFrom(chosen: Iterable<File>): PickedModel {
  const files = [...chosen];
  const folder = files[0]?.webkitRelativePath.split('/')[0] ?? '';
  if (folder === '') return { name: looseName(files), files };
  const counted = files.flatMap((file) => {
    const [, first = '', ...deeper] = file.webkitRelativePath.split('/');
    if (deeper.length === 0) return file;
    return isPoolingFolder(first) && deeper.join('/') === POOLING ? named(file, `${first}/${POOLING}`) : [];
  });
  return { name: modelName(folder), files: counted };
}

/**
 * What was dropped: files, or one folder, of which the first level counts, and pooling modules in it. Call it in the task of the event: browsers forget afterwards what
 * was dropped. Rejects with an `Error` for several folders, or one of too many files.
 */
export async function pickedFromDrop(transfer: Pick<DataTransfer, 'items'>): Promise<PickedModel> {
  const items = [...transfer.items].filter((item) => item.kind === 'file');
  const dropped = items.map((item) => ({ entry: item.webkitGetAsEntry(), file: item.getAsFile() }));
  const folders = dropped.flatMap(({ entry }) => (entry?.isDirectory ? [entry as FileSystemDirectoryEntry] : []));
  const loose = dropped.flatMap(({ entry, file }) => (entry?.isDirectory || file === null ? [] : [file]));
  const [folder] = folders;
  if (folder === undefined) return { name: looseName(loose), files: loose };
  if (folders.length > 1 || loose.length > 0)
    throw new Error('More than one thing was dropped. Drop the folder of one model, or its files.');
  return { name: modelName(folder.name), files: await filesIn(folder) };
}

async function filesIn(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const reader = folder.createReader();
  const files: File[] = [];
  // A browser gives a hundred or so at a time, and none at the end.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return files;
    if (files.length + entries.length > MAX_ENTRIES)
      throw new Error(`${folder.name} has more than ${MAX_ENTRIES} files. Drop the folder of one model.`);
    for (const entry of entries) {
      if (entry.isFile) files.push(await fileOf(entry as FileSystemFileEntry));
      else if (isPoolingFolder(entry.name)) files.push(...(await poolingIn(entry as FileSystemDirectoryEntry)));
    }
  }
}

/** How a model for embeddings pools, where the folder says it. */
async function poolingIn(folder: FileSystemDirectoryEntry): Promise<File[]> {
  const entry = await new Promise<FileSystemEntry | null>((resolve) =>
    folder.getFile(POOLING, {}, resolve, () => resolve(null)),
  );
  return entry === null ? [] : [named(await fileOf(entry as FileSystemFileEntry), `${folder.name}/${POOLING}`)];
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** The same file under its path in the model. */
function named(file: File, path: string): File {
  return new File([file], path);
}

/** A folder's name as the API takes names. */
function modelName(folder: string): string {
  return folder.replace(/[^\w.-]+/g, '-').slice(0, 100) || NO_FOLDER_NAME;
}

/** A GGUF file says which model it is; the files of a folder do not. */
function looseName(files: readonly File[]): string {
  const [gguf] = ggufModels(files.map((file) => file.name));
  return gguf === undefined ? NO_FOLDER_NAME : modelName(gguf.name);
}
