/** Names of the files of a model, in the layout of Hugging Face, that a node or its frontend may need. Nothing else of a folder is read. */
const NEEDED =
  /^(config|generation_config|self-test|tokenizer|tokenizer_config|model\.safetensors\.index)\.json$|^chat_template\.jinja$|\.safetensors$/;

/** Whether a model may need a file of this name. */
export const isModelFile = (name: string): boolean => NEEDED.test(name);
