"""llama.cpp's own decoding and prompt processing, through its C interface: greedy ids, logits and tokens per second of a GGUF file.

    python bench/peers/llama_cpp.py --library node_modules/@node-llama-cpp/linux-x64/bins/linux-x64 --model FILE.gguf --threads 2 --json OUT
        [--prompt-ids 1,2,3] [--tokens 128] [--prompt 512] [--repeats 3]

The library is the built one of npm's node-llama-cpp, or of PyPI's llama-cpp-python: any folder that holds libllama.
"""
import argparse
import ctypes
import glob
import json
import os
import sys
import time

try:
    import numpy
except ImportError:
    sys.exit(f"{sys.executable} has no NumPy, which the comparison with llama.cpp needs: ./setup --tests brings it")


class Bytes(ctypes.Structure):
    """A struct of llama.h whose layout differs between versions: passed on as it came, but for the fields read below."""
    _fields_ = [("words", ctypes.c_uint32 * 128)]


class Llama:
    def __init__(self, folder):
        def load(pattern):
            found = sorted(glob.glob(os.path.join(folder, pattern)))
            if not found:
                sys.exit(f"{folder}: no {pattern} there; give the folder of a built llama.cpp")
            return ctypes.CDLL(found[0], mode=ctypes.RTLD_GLOBAL)
        load("libggml-base*.so*")
        ggml = load("libggml.*so*")
        self.library = load("libllama.*so*")
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
        self.library.llama_log_set(self.quiet, None)
        ggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        ggml.ggml_backend_load_all_from_path(folder.encode())
        self.library.llama_backend_init()
        for name, result, arguments in [
                ("llama_model_default_params", Bytes, []), ("llama_context_default_params", Bytes, []),
                ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Bytes]),
                ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, Bytes]),
                ("llama_set_n_threads", None, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]),
                ("llama_batch_get_one", Bytes, [ctypes.c_void_p, ctypes.c_int32]),
                ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, Bytes]),
                ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p, ctypes.c_int32]),
                ("llama_get_memory", ctypes.c_void_p, [ctypes.c_void_p]),
                ("llama_memory_clear", None, [ctypes.c_void_p, ctypes.c_bool]),
                ("llama_tokenize", ctypes.c_int32, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32,
                                                    ctypes.c_bool, ctypes.c_bool]),
                ("llama_token_to_piece", ctypes.c_int32, [ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32,
                                                          ctypes.c_bool]),
                ("llama_vocab_is_eog", ctypes.c_bool, [ctypes.c_void_p, ctypes.c_int32]),
                ("llama_model_get_vocab", ctypes.c_void_p, [ctypes.c_void_p]),
                ("llama_vocab_n_tokens", ctypes.c_int32, [ctypes.c_void_p])]:
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments

    def open(self, model, context, threads):
        self.model = self.library.llama_model_load_from_file(model.encode(), self.library.llama_model_default_params())
        if not self.model:
            sys.exit(f"{model}: llama.cpp cannot load it")
        parameters = self.library.llama_context_default_params()
        if list(parameters.words[:3]) != [512, 2048, 512]:  # n_ctx, n_batch, n_ubatch
            sys.exit(f"llama.cpp's context parameters begin with {list(parameters.words[:4])}: a layout that is not known here")
        parameters.words[0] = context
        self.context = self.library.llama_init_from_model(self.model, parameters)
        if not self.context:
            sys.exit(f"{model}: llama.cpp makes no context of {context} tokens")
        self.library.llama_set_n_threads(self.context, threads, threads)
        self.vocab = self.library.llama_model_get_vocab(self.model)
        self.vocabulary = self.library.llama_vocab_n_tokens(self.vocab)

    def tokenize(self, text):
        data, array = text.encode(), (ctypes.c_int32 * (len(text.encode()) + 8))()
        count = self.library.llama_tokenize(self.vocab, data, len(data), array, len(array), True, False)
        return list(array[:count])

    def piece(self, token):
        buffer = ctypes.create_string_buffer(256)
        length = self.library.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[:length]

    def ends(self, token):
        return self.library.llama_vocab_is_eog(self.vocab, token)

    def control(self, directions):
        """Adds {layer: row of floats} behind those layers from now on."""
        width, last = len(next(iter(directions.values()))), max(directions)
        flat = [value for layer in range(1, last + 1) for value in directions.get(layer, [0.0] * width)]
        function = self.library.llama_set_adapter_cvec
        function.restype, function.argtypes = ctypes.c_int32, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int32] * 3
        if function(self.context, (ctypes.c_float * len(flat))(*flat), len(flat), width, 1, last) != 0:
            sys.exit("llama.cpp refuses the control vector")

    def clear(self):
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)

    def decode(self, ids):
        array = (ctypes.c_int32 * len(ids))(*ids)
        status = self.library.llama_decode(self.context, self.library.llama_batch_get_one(array, len(ids)))
        if status != 0:
            sys.exit(f"llama_decode gave {status}")
        return self.library.llama_get_logits_ith(self.context, -1)

    def logits(self, pointer):
        return numpy.ctypeslib.as_array(pointer, (self.vocabulary,))

    def greedy(self, ids, tokens):
        """Ids chosen, the gap between the two best logits at each, and the seconds of all but the prompt."""
        self.clear()
        logits = self.logits(self.decode(ids))
        begin, chosen, gaps = time.perf_counter(), [], []
        for _ in range(tokens):
            best = int(logits.argmax())
            chosen.append(best)
            two = numpy.partition(logits, -2)[-2:]
            gaps.append(float(two[1] - two[0]))
            logits = self.logits(self.decode([best]))
        return chosen, gaps, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt-ids", default="")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", required=True)
    options = parser.parse_args()
    llama = Llama(os.path.abspath(options.library))
    llama.open(options.model, max(2048, options.prompt + options.tokens + 1), options.threads)
    ids = [int(i) for i in options.prompt_ids.split(",") if i] or [1]
    reading = [(1000 + 37 * i) % llama.vocabulary for i in range(options.prompt)]
    decode, prompt = [], []
    for _ in range(options.repeats):
        chosen, gaps, seconds = llama.greedy(ids, options.tokens)
        decode.append(options.tokens / seconds)
        llama.clear()
        begin = time.perf_counter()
        llama.decode(reading)[0]
        prompt.append(options.prompt / (time.perf_counter() - begin))
    with open(options.json, "w") as file:
        json.dump({"ids": chosen, "gaps": gaps, "decode_tokens_per_second": decode, "prompt_tokens_per_second": prompt}, file)


if __name__ == "__main__":
    main()
