/*
 * Whether this processor has what the library was compiled for. PostgreSQL's first call comes here (see processor.rs), before an instruction runs
 * that the processor may not have. So this file is compiled for the oldest processor of the architecture, calls nothing of the
 * library until the check is passed, and reports the error itself.
 */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "built_for.h"

#if defined(__SSE3__) || defined(__AVX__) || defined(__ARM_FEATURE_CRC32)
#error "this file must be compiled for the oldest processor: no -march in CFLAGS"
#endif

/* What elog.h declares, in every PostgreSQL from 14 on. Its header would bring all others with it. */
#define ERROR 21
#define SIXBIT(c) (((c) - '0') & 0x3f)
#define ERRCODE_FEATURE_NOT_SUPPORTED                                                                                             \
    (SIXBIT('0') + (SIXBIT('A') << 6) + (SIXBIT('0') << 12) + (SIXBIT('0') << 18) + (SIXBIT('0') << 24))
extern bool errstart(int elevel, const char *domain);
extern int errcode(int sqlerrcode);
extern int errmsg(const char *format, ...);
extern int errdetail(const char *format, ...);
extern int errhint(const char *format, ...);
extern void errfinish(const char *filename, int lineno, const char *funcname);

/* What _PG_init does once it may: lib.rs. */
extern void prism_crypt_init(void);

#if defined(__x86_64__)
#include <cpuid.h>

struct feature
{
    const char *name;
    unsigned leaf, subleaf, reg, bit;
    /* What the operating system must save. */
    unsigned state;
};

static unsigned
saved_state(void)
{
    unsigned a, b, c, d;

    /* OSXSAVE: without it there is no xgetbv. */
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27)))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static bool
has(const struct feature *feature)
{
    unsigned regs[4];

    if (!__get_cpuid_count(feature->leaf, feature->subleaf, &regs[0], &regs[1], &regs[2], &regs[3]))
        return false;
    if (!(regs[feature->reg] & (1u << feature->bit)))
        return false;
    return (saved_state() & feature->state) == feature->state;
}

#elif defined(__aarch64__)

struct feature
{
    const char *name;
    unsigned word, bit;
};

#ifdef __linux__
#include <sys/auxv.h>

static bool
has(const struct feature *feature)
{
    return (getauxval(feature->word == 0 ? AT_HWCAP : AT_HWCAP2) >> feature->bit) & 1;
}
#else
static bool
has(const struct feature *feature)
{
    return true;
}
#endif
#endif

static const struct feature features[] = {FEATURES {NULL}};

/* Writes the names of the features that are missing, with commas between them. */
static void
list_missing(char *list, size_t size)
{
    size_t used = 0;

    list[0] = '\0';
    for (const struct feature *feature = features; feature->name != NULL; feature++)
    {
        size_t length = strlen(feature->name);

        if (has(feature) || used + length + 3 > size)
            continue;
        if (used > 0)
        {
            memcpy(list + used, ", ", 2);
            used += 2;
        }
        memcpy(list + used, feature->name, length + 1);
        used += length;
    }
}

__attribute__((visibility("hidden"))) void
prism_crypt_check_processor(void)
{
    char missing[1024];

    list_missing(missing, sizeof(missing));
    if (missing[0] != '\0' && errstart(ERROR, NULL))
    {
        errcode(ERRCODE_FEATURE_NOT_SUPPORTED);
        errmsg("this library of prism_crypt was built for another processor");
        errdetail("It was built for %s. This processor lacks: %s.", BUILT_FOR, missing);
        errhint("Build it on this machine, or with OPTFLAGS= for any processor, or install a package.");
        errfinish("processor.c", __LINE__, __func__);
    }
    prism_crypt_init();
}
