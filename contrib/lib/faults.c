/*
 * Makes a chosen call of a program fail; for contrib/faults, loaded by LD_PRELOAD.
 *
 * It counts calls on files below POSTERN_FAULTS_ROOT by kind and by file. Threads work on different files; so the nth write to one file is
 * the same write in each run, while the nth write of the process isn't. Sockets, pipes and devices are left alone.
 *
 *   POSTERN_FAULTS_ROOT   a folder, as realpath(3) gives it
 *   POSTERN_FAULTS_ALL    if set, files elsewhere count, too, by their full paths, except for /proc, /sys and /dev
 *   POSTERN_FAULTS_COUNT  a file for the counts, outside of the folder
 *   POSTERN_FAULT         KIND@FILE:N:ERROR, such as write@sync.sqlite-wal:3:ENOSPC; with N+, every call of the kind fails from there on,
 *                         whatever file it is on. SHORT instead of an error: half of the bytes are written.
 *
 * fsync(2) succeeds without doing anything, to make runs fast.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN, READ, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MMAP, LOCK, MEMORY, KINDS };
static const char *const kinds[KINDS] = {"open", "read", "write", "truncate", "sync", "rename", "unlink", "mmap", "lock", "memory"};

#define NAME_SIZE 88
#define FILES 160

/* Shared with contrib/lib/faults.py, which knows this layout. */
struct table {
    uint32_t fired; /* The number of calls that have failed. */
    char first[252]; /* The path of the first one. */
    struct {
        char name[NAME_SIZE];
        uint32_t counts[KINDS];
    } files[FILES];
};

static struct table *table;
static char root[PATH_MAX];
static size_t root_length;
static int is_everywhere;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int fault_kind = -1, fault_error, fault_lasts, fault_short;
static char fault_file[NAME_SIZE];
static uint32_t fault_number;
static int fault_begun;

static const struct {
    const char *name;
    int code;
} errors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EACCES", EACCES}, {"EMFILE", EMFILE},
              {"ENOMEM", ENOMEM}, {"ENOLCK", ENOLCK}, {"EROFS", EROFS},   {"SHORT", ENOSPC}};

static void complain(const char *what) {
    dprintf(2, "faults: %s\n", what);
    _exit(99);
}

static void parse(const char *text) {
    char copy[256];
    if (strlen(text) >= sizeof copy) complain("the fault is too long");
    strcpy(copy, text);
    char *at = strchr(copy, '@'), *error = strrchr(copy, ':');
    if (!at || !error || error < at) complain("a fault is KIND@FILE:N:ERROR");
    *at = *error++ = 0;
    error[-1] = 0;
    char *number = strrchr(at + 1, ':');
    if (!number) complain("a fault is KIND@FILE:N:ERROR");
    *number++ = 0;
    for (int kind = 0; kind < KINDS; kind++)
        if (!strcmp(copy, kinds[kind])) fault_kind = kind;
    if (fault_kind < 0) complain("unknown kind of call");
    snprintf(fault_file, sizeof fault_file, "%s", at + 1);
    char *end;
    fault_number = (uint32_t)strtoul(number, &end, 10);
    fault_lasts = *end == '+';
    for (size_t n = 0; n < sizeof errors / sizeof *errors; n++)
        if (!strcmp(error, errors[n].name)) fault_error = errors[n].code;
    if (!fault_error) complain("unknown error");
    fault_short = !strcmp(error, "SHORT");
}

__attribute__((constructor)) static void begin(void) {
    /* The filter ends with contrib/faults, even if that is killed. */
    const char *parent = getenv("POSTERN_FAULTS_PARENT");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (parent && atoi(parent) != getppid()) _exit(99);
    const char *place = getenv("POSTERN_FAULTS_ROOT"), *counts = getenv("POSTERN_FAULTS_COUNT"), *fault = getenv("POSTERN_FAULT");
    if (fault && *fault) parse(fault);
    if (!place || !counts) return;
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, counts, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0 || syscall(SYS_ftruncate, descriptor, (long)sizeof *table) != 0) complain("the counts can't be opened");
    void *memory = (void *)syscall(SYS_mmap, NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0L);
    syscall(SYS_close, descriptor);
    if (memory == MAP_FAILED) complain("the counts can't be mapped");
    snprintf(root, sizeof root, "%s", place);
    is_everywhere = getenv("POSTERN_FAULTS_ALL") != NULL;
    root_length = strlen(root);
    table = memory;
}

/* The name under which a file is counted; 0 for files that aren't counted. */
static int name_file(const char *path, char name[NAME_SIZE]) {
    if (path[0] != '/') return 0;
    const char *rest = path + root_length;
    if (strncmp(path, root, root_length) || (*rest && *rest != '/')) {
        if (!is_everywhere || !strncmp(path, "/proc/", 6) || !strncmp(path, "/sys/", 5) || !strncmp(path, "/dev/", 5)) return 0;
        /* Standard error; its folder differs from run to run. */
        const char *name_alone = strrchr(path, '/') + 1;
        return snprintf(name, NAME_SIZE, "%.*s", NAME_SIZE - 1, strcmp(name_alone, "messages") ? path : name_alone) > 0;
    }
    while (*rest == '/') rest++;
    size_t length = strlen(rest);
    const char *deleted = " (deleted)";
    if (length > strlen(deleted) && !strcmp(rest + length - strlen(deleted), deleted)) length -= strlen(deleted);
    if (!length) return snprintf(name, NAME_SIZE, "folder") > 0;
    const char *slash = memrchr(rest, '/', length);
    const char *last = slash ? slash + 1 : rest;
    size_t last_length = length - (size_t)(last - rest);
    /* O_TMPFILE: a file without a name. */
    if (last[0] == '#') return snprintf(name, NAME_SIZE, "unnamed") > 0;
    /* .NAME.XXXXXX: a temporary file that will replace NAME. */
    if (last[0] == '.' && last_length > 8 && last[last_length - 7] == '.')
        return snprintf(name, NAME_SIZE, "%.*s.new", (int)(last_length - 8), last + 1) > 0;
    if (length >= NAME_SIZE) rest += length - (NAME_SIZE - 1), length = NAME_SIZE - 1;
    return snprintf(name, NAME_SIZE, "%.*s", (int)length, rest) > 0;
}

/* Counts a call; true if it must fail. Keeps errno. */
static int fails(enum kind kind, const char *path) {
    char name[NAME_SIZE];
    if (!name_file(path, name)) return 0;
    int saved = errno, failing = 0;
    pthread_mutex_lock(&lock);
    size_t place = 0;
    while (place < FILES && table->files[place].name[0] && strcmp(table->files[place].name, name)) place++;
    if (place < FILES) {
        if (!table->files[place].name[0]) strcpy(table->files[place].name, name);
        uint32_t number = ++table->files[place].counts[kind];
        int is_it = (int)kind == fault_kind && number == fault_number && !strcmp(name, fault_file);
        if (is_it) fault_begun = 1;
        /* Files can't grow on a disk that can't be written. */
        int is_like_it = (int)kind == fault_kind || (fault_kind == WRITE && kind == TRUNCATE);
        failing = is_it || (fault_begun && fault_lasts && is_like_it);
        if (failing && !table->fired++) snprintf(table->first, sizeof table->first, "%s", path);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return failing;
}

/* The path of a descriptor of a file or folder. */
static int path_of(int descriptor, char path[PATH_MAX]) {
    int saved = errno;
    char link[48];
    if (descriptor == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    errno = saved;
    if (length <= 0 || path[0] != '/') return 0;
    path[length] = 0;
    return 1;
}

static int fails_at(enum kind kind, int folder, const char *path) {
    if (!table || !path) return 0;
    if (path[0] == '/') return fails(kind, path);
    char whole[2 * PATH_MAX];
    if (!path_of(folder, whole)) return 0;
    size_t length = strlen(whole);
    snprintf(whole + length, sizeof whole - length, "/%.*s", PATH_MAX, path);
    return fails(kind, whole);
}

static int fails_on(enum kind kind, int descriptor) {
    char path[PATH_MAX];
    return table && path_of(descriptor, path) && fails(kind, path);
}

/* Counts a write: true if it must fail; reduces the length if it must be short. */
static int fails_writing(int descriptor, size_t *count) {
    if (!fails_on(WRITE, descriptor)) return 0;
    if (!fault_short || *count < 2 || table->fired > 1) return 1;
    *count /= 2;
    return 0;
}

#define FAIL(result)         \
    do {                     \
        errno = fault_error; \
        return result;       \
    } while (0)

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    int unnamed = (flags & O_TMPFILE) == O_TMPFILE;
    if (unnamed ? fails_at(OPEN, AT_FDCWD, strcat(strcpy((char[PATH_MAX + 8]){0}, root), "/#1"))
                : fails_at(OPEN, folder, path))
        FAIL(-1);
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE                                                              \
    mode_t mode = 0;                                                      \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {            \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode = va_arg(rest, mode_t);                                      \
        va_end(rest);                                                     \
    }

int open(const char *path, int flags, ...) {
    MODE
    return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE
    return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE
    return open_at(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE
    return open_at(folder, path, flags, mode);
}
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char *path, int flags) { return open_at(folder, path, flags, 0); }
int __openat64_2(int folder, const char *path, int flags) { return open_at(folder, path, flags, 0); }

DIR *opendir(const char *path) {
    if (fails_at(OPEN, AT_FDCWD, path)) FAIL(NULL);
    return ((DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir"))(path);
}
FILE *fopen(const char *path, const char *mode) {
    if (fails_at(OPEN, AT_FDCWD, path)) FAIL(NULL);
    return ((FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, "fopen"))(path, mode);
}
FILE *fopen64(const char *path, const char *mode) { return fopen(path, mode); }

ssize_t read(int descriptor, void *bytes, size_t count) {
    if (fails_on(READ, descriptor)) FAIL(-1);
    return syscall(SYS_read, descriptor, bytes, count);
}
ssize_t pread(int descriptor, void *bytes, size_t count, off_t offset) {
    if (fails_on(READ, descriptor)) FAIL(-1);
    return syscall(SYS_pread64, descriptor, bytes, count, offset);
}
ssize_t pread64(int descriptor, void *bytes, size_t count, off_t offset) { return pread(descriptor, bytes, count, offset); }
ssize_t readv(int descriptor, const struct iovec *parts, int count) {
    if (fails_on(READ, descriptor)) FAIL(-1);
    return syscall(SYS_readv, descriptor, parts, count);
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    if (fails_writing(descriptor, &count)) FAIL(-1);
    return syscall(SYS_write, descriptor, bytes, count);
}
ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    if (fails_writing(descriptor, &count)) FAIL(-1);
    return syscall(SYS_pwrite64, descriptor, bytes, count, offset);
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off_t offset) { return pwrite(descriptor, bytes, count, offset); }
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    size_t one = 1;
    if (fails_writing(descriptor, &one)) FAIL(-1);
    return syscall(SYS_writev, descriptor, parts, count);
}

int ftruncate(int descriptor, off_t length) {
    if (fails_on(TRUNCATE, descriptor)) FAIL(-1);
    return (int)syscall(SYS_ftruncate, descriptor, length);
}
int ftruncate64(int descriptor, off_t length) { return ftruncate(descriptor, length); }
int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    if (fails_on(TRUNCATE, descriptor)) FAIL(-1);
    return (int)syscall(SYS_fallocate, descriptor, mode, offset, length);
}
int fallocate64(int descriptor, int mode, off_t offset, off_t length) { return fallocate(descriptor, mode, offset, length); }
int posix_fallocate(int descriptor, off_t offset, off_t length) {
    if (fails_on(TRUNCATE, descriptor)) return fault_error;
    return syscall(SYS_fallocate, descriptor, 0, offset, length) == 0 ? 0 : errno;
}
int posix_fallocate64(int descriptor, off_t offset, off_t length) { return posix_fallocate(descriptor, offset, length); }

int fsync(int descriptor) {
    if (fails_on(SYNC, descriptor)) FAIL(-1);
    return 0;
}
int fdatasync(int descriptor) { return fsync(descriptor); }

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    if (fails_at(RENAME, to, new)) FAIL(-1);
    return (int)syscall(SYS_renameat2, from, old, to, new, flags);
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int unlinkat(int folder, const char *path, int flags) {
    if (fails_at(UNLINK, folder, path)) FAIL(-1);
    return (int)syscall(SYS_unlinkat, folder, path, flags);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

/* True for calls from the program itself: libraries may end the process if they get no memory. */
static int is_program(const void *caller) {
    static char program[PATH_MAX];
    Dl_info info;
    if (!program[0] && syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", program, PATH_MAX - 1) <= 0) return 0;
    const char *name = strrchr(program, '/');
    const char *of = dladdr(caller, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    return of && name && !strcmp(of, name);
}

void *mmap(void *place, size_t length, int protection, int flags, int descriptor, off_t offset) {
    if (!(flags & MAP_ANONYMOUS)) {
        if (fails_on(MMAP, descriptor)) FAIL(MAP_FAILED);
    } else if (table && is_program(__builtin_return_address(0))) {
        char path[PATH_MAX + 8];
        snprintf(path, sizeof path, "%s/memory", root);
        if (fails(MEMORY, path)) FAIL(MAP_FAILED);
    }
    return (void *)syscall(SYS_mmap, place, length, protection, flags, descriptor, offset);
}
void *mmap64(void *place, size_t length, int protection, int flags, int descriptor, off_t offset) {
    return mmap(place, length, protection, flags, descriptor, offset);
}

int flock(int descriptor, int operation) {
    if (operation != LOCK_UN && fails_on(LOCK, descriptor)) FAIL(-1);
    return (int)syscall(SYS_flock, descriptor, operation);
}
static int control(int descriptor, int command, void *argument) {
    int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    if (locks && ((struct flock *)argument)->l_type != F_UNLCK && fails_on(LOCK, descriptor)) FAIL(-1);
    return (int)syscall(SYS_fcntl, descriptor, command, argument);
}
#define CONTROL(name)                                  \
    int name(int descriptor, int command, ...) {       \
        va_list rest;                                  \
        va_start(rest, command);                       \
        void *argument = va_arg(rest, void *);         \
        va_end(rest);                                  \
        return control(descriptor, command, argument); \
    }
CONTROL(fcntl)
CONTROL(fcntl64)
