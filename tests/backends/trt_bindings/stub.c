/* libnvinfer as far as NVIDIA's Python bindings need one: objects whose every virtual method asks `hook`.

   The bindings' C++ classes are thin: an object holds a pointer to its implementation and calls that one's virtual
   methods by their place in the table. Which place is which method differs between versions; `drive.py` finds out by
   calling each method and looking at `last_slot`. */
#include <stdint.h>

typedef uint64_t word;
typedef struct { void **table; } Implementation;
typedef struct { void **table; Implementation *implementation, *again; } Object;
typedef word (*Hook)(int kind, int slot, word a, word b, word c);

enum { KINDS = 32, SLOTS = 300 };
static Implementation implementations[KINDS];
static Object objects[KINDS];
static word logger;
static Hook hook;
int last_kind, last_slot;

static word dispatch(int slot, word self, word a, word b, word c, word d) {
    int kind = (Implementation *)self - implementations;
    /* What returns a Dims gets the address to write it to first, and itself second. */
    int writes = self < (word)implementations || self >= (word)(implementations + KINDS);
    if (writes) kind = (Implementation *)a - implementations;
    last_kind = kind, last_slot = slot;
    word answer = !hook ? 0 : writes ? hook(kind, slot, b, c, d) : hook(kind, slot, a, b, c);
    if (!writes) return answer;
    int64_t *sizes = (int64_t *)answer; /* how many, and the sizes */
    *(int32_t *)self = sizes ? sizes[0] : 0;
    for (int i = 0; i < 8; i++) ((int64_t *)self)[i + 1] = sizes ? sizes[i + 1] : 0;
    return self;
}

#define TEN(F, n) F(n##0) F(n##1) F(n##2) F(n##3) F(n##4) F(n##5) F(n##6) F(n##7) F(n##8) F(n##9)
#define HUNDRED(F, n) TEN(F, n##0) TEN(F, n##1) TEN(F, n##2) TEN(F, n##3) TEN(F, n##4) \
    TEN(F, n##5) TEN(F, n##6) TEN(F, n##7) TEN(F, n##8) TEN(F, n##9)
#define ALL(F) HUNDRED(F, 10) HUNDRED(F, 11) HUNDRED(F, 12) /* 1000 to 1299 */
#define METHOD(n) static word method##n(word s, word a, word b, word c, word d) { return dispatch(n - 1000, s, a, b, c, d); }
#define NAME(n) method##n,
ALL(METHOD)

static word nothing(void) { return 0; }
#define NOTHING(n) nothing,

/* A table begins with what RTTI wants: the bindings ask for the most derived class, which is none of theirs. */
extern char _ZTVN10__cxxabiv117__class_type_infoE[];
static struct { void *table; const char *name; } type = {_ZTVN10__cxxabiv117__class_type_infoE + 16, "4Stub"};
static void *of_implementation[SLOTS + 2] = {0, &type, ALL(NAME)};
static void *of_object[SLOTS + 2] = {0, &type, ALL(NOTHING)};

__attribute__((constructor)) static void begin(void) {
    for (int i = 0; i < KINDS; i++) {
        implementations[i].table = of_implementation + 2;
        objects[i] = (Object){of_object + 2, &implementations[i], &implementations[i]};
    }
}

void set_hook(Hook chosen) { hook = chosen; }
word object(int kind) { return (word)&objects[kind]; }
word implementation(int kind) { return (word)&implementations[kind]; }
word given_logger(void) { return logger; }
/* Call a virtual method of an object that Python made: a logger, a monitor, a profiler. */
word call_back(word self, int slot, word a, word b, word c) {
    return ((word(*)(word, word, word, word))(*(void ***)self)[slot])(self, a, b, c);
}
void call_back_time(word self, int slot, const char *name, float ms) {
    ((void (*)(word, const char *, float))(*(void ***)self)[slot])(self, name, ms);
}

enum { BUILDER, RUNTIME, PARSER };
word createInferBuilder_INTERNAL(word log) { return logger = log, object(BUILDER); }
word createInferRuntime_INTERNAL(word log) { return logger = log, object(RUNTIME); }
word createNvOnnxParser_INTERNAL(void) { return implementation(PARSER); }
word createInferRefitter_INTERNAL(void) { return 0; }
word createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
word getBuilderPluginRegistry(void) { return 0; }
word getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
