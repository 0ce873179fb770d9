// Preloaded into a program under test: counts what a serving loop must not do. The counts stand in the file that
// DEMUX_COUNTS names, as u64: see the enum.
//
// Allocations and locks are glibc's functions, put in front of them. Reference counts are Swift's: its runtime keeps its entry
// points behind variables, and looks at them once a flag is set, so that a tool can put its own in their place. In a program that
// carries its runtime in itself they are not dynamic symbols: they are looked up in the symbol table of the file, which
// must not have been stripped.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALLOCATIONS, RETAINS, RELEASES, HOOKED, LOCKS };

static uint64_t before[512];
static uint64_t *counts = before;
static void count(int which) { __atomic_fetch_add(&counts[which], 1, __ATOMIC_RELAXED); }

// ---------------------------------------------------------------- allocations
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
void *malloc(size_t size) { count(ALLOCATIONS); return __libc_malloc(size); }
void *calloc(size_t number, size_t size) { count(ALLOCATIONS); return __libc_calloc(number, size); }
void *realloc(void *old, size_t size) { count(ALLOCATIONS); return __libc_realloc(old, size); }
void *aligned_alloc(size_t alignment, size_t size) { count(ALLOCATIONS); return __libc_memalign(alignment, size); }
int posix_memalign(void **result, size_t alignment, size_t size) {
    count(ALLOCATIONS);
    *result = __libc_memalign(alignment, size);
    return *result ? 0 : 12;
}

// ---------------------------------------------------------------- locks
#define LOCK(name, type) \
    int name(type *lock) { \
        static int (*real)(type *); \
        if (!real) real = (int (*)(type *))dlsym(RTLD_NEXT, #name); \
        count(LOCKS); \
        return real(lock); \
    }
LOCK(pthread_mutex_lock, pthread_mutex_t)
LOCK(pthread_mutex_trylock, pthread_mutex_t)
LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
LOCK(pthread_spin_lock, pthread_spinlock_t)

// ---------------------------------------------------------------- reference counts
#define ONE(name, which) \
    static void *(*real_##name)(void *); \
    static void *hook_##name(void *object) { count(which); return real_##name(object); }
#define MANY(name, which) \
    static void *(*real_##name)(void *, uint32_t); \
    static void *hook_##name(void *object, uint32_t number) { count(which); return real_##name(object, number); }
ONE(retain, RETAINS)
ONE(tryRetain, RETAINS)
ONE(release, RELEASES)
MANY(retain_n, RETAINS)
MANY(release_n, RELEASES)

// The way from swift_retain to the variable masks bits off a value that may be none of an object (a short string in its place), so
// it is counted one step before, where such a value can still be told: it is negative.
static void *hook_retain_adapter(void *object) {
    if ((intptr_t)object <= 0) return object;
    count(RETAINS);
    real_retain((void *)((uintptr_t)object & 0xfffffffffffff8));
    return object;
}

static const char *file;
static const Elf64_Sym *symbols;
static const char *names;
static size_t symbol_count;
static uintptr_t bias;

static int main_program(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size; (void)unused;
    bias = info->dlpi_addr;
    return 1; // the first one is the program itself
}

static void open_program(void) {
    struct stat status;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0) return;
    file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED) { file = NULL; return; }
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)(const void *)file;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(const void *)(file + header->e_shoff);
    for (unsigned section = 0; section < header->e_shnum; section++) {
        if (sections[section].sh_type != SHT_SYMTAB) continue;
        symbols = (const Elf64_Sym *)(const void *)(file + sections[section].sh_offset);
        symbol_count = sections[section].sh_size / sizeof *symbols;
        names = file + sections[sections[section].sh_link].sh_offset;
    }
    dl_iterate_phdr(main_program, NULL);
}

static void *find(const char *name) {
    void *dynamic = dlsym(RTLD_DEFAULT, name);
    if (dynamic) return dynamic;
    for (size_t index = 0; index < symbol_count; index++)
        if (symbols[index].st_shndx != SHN_UNDEF && !strcmp(names + symbols[index].st_name, name)) return (void *)(bias + symbols[index].st_value);
    return NULL;
}

static bool hook(const char *name, void *ours, void **real) {
    void **variable = find(name);
    if (!variable || !*variable) return false;
    *real = *variable;
    *variable = ours;
    return true;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("DEMUX_COUNTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page = fd >= 0 ? mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0) close(fd);
    if (page == MAP_FAILED) return;
    counts = page;
    open_program();
    bool *flag = find("_swift_enableSwizzlingOfAllocationAndRefCountingFunctions_forInstrumentsOnly");
    // Those that a runtime does not have are not missed: the control says whether those that it has are counted.
    hook("_swift_tryRetain", (void *)hook_tryRetain, (void **)&real_tryRetain);
    hook("_swift_retain_n", (void *)hook_retain_n, (void **)&real_retain_n);
    hook("_swift_release_n", (void *)hook_release_n, (void **)&real_release_n);
    void **retain = find("_swift_retain"), *adapter;
    if (retain) real_retain = (void *(*)(void *))*retain;
    bool hooked = hook("_swift_release", (void *)hook_release, (void **)&real_release)
        && (hook("_ZL21_swift_retain_adapter", (void *)hook_retain_adapter, &adapter) || hook("_swift_retain", (void *)hook_retain, (void **)&real_retain));
    if (!hooked) return;
    if (flag) *flag = true;
    counts[HOOKED] = 1;
}
