/* Asks the real dynamic loader.

   As a program inside a tree (its search tags are rewritten, see elf_writer.retag):
       PROGRAM STEP...        STEP = CALLER:FLAGS:NAME
   Prints a JSON line after the start and after each dlopen: the link map in order, or dlerror(). CALLER counts the
   generated libraries of the link map, modulo their number; 0 is the program. FLAGS is a number for dlopen.

   As the launcher outside of it, which makes the tree the root directory and becomes the program:
       oracle enter ROOT CWD UID PROGRAM NSTEPS STEP... VARIABLE=VALUE...
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <grp.h>
#include <link.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define VIA 0x180 /* elf_writer.VIA */
static const unsigned char via_code[] = {0x48, 0x83, 0xec, 8, 0xff, 0xd2, 0x48, 0x83, 0xc4, 8, 0xc3};
typedef void *(*via_function)(const char *, int, void *);

static void put(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\' || (unsigned char)*text < 32)
            printf("\\u%04x", (unsigned char)*text);
        else
            putchar(*text);
    putchar('"');
}

static int generated(struct link_map *map)
{
    return map->l_prev && memcmp((char *)map->l_addr + VIA, via_code, sizeof via_code) == 0;
}

static struct link_map *caller_of(int number)
{
    int count = 1;
    struct link_map *map;
    for (map = _r_debug.r_map; map; map = map->l_next)
        count += generated(map);
    number %= count;
    for (map = _r_debug.r_map; map && number; map = map->l_next)
        if (generated(map) && --number == 0)
            return map;
    return NULL;
}

static void report(struct link_map *handle, const char *error)
{
    printf("{\"objects\": [");
    for (struct link_map *map = _r_debug.r_map; map; map = map->l_next) {
        put(map->l_name);
        if (map->l_next)
            printf(", ");
    }
    printf("], \"handle\": ");
    put(handle ? handle->l_name : "");
    printf(", \"error\": ");
    put(error ? error : "");
    printf("}\n");
    fflush(stdout);
}

static void step(const char *text)
{
    char *rest;
    int number = strtol(text, &rest, 10);
    int flags = strtol(rest + 1, &rest, 10);
    struct link_map *caller = caller_of(number);
    void *handle;
    if (caller)
        handle = ((via_function)((char *)caller->l_addr + VIA))(rest + 1, flags, (void *)dlopen);
    else
        handle = dlopen(rest + 1, flags);
    report(handle, handle ? NULL : dlerror());
}

static int enter(char **arguments)
{
    char proc[4096];
    const char *root = arguments[0], *cwd = arguments[1], *program = arguments[3];
    int uid = atoi(arguments[2]), steps = atoi(arguments[4]);
    char **environ_of_it = arguments + 5 + steps;
    char **its_arguments = calloc(steps + 2, sizeof *its_arguments);
    its_arguments[0] = (char *)program;
    memcpy(its_arguments + 1, arguments + 5, steps * sizeof *its_arguments);
    snprintf(proc, sizeof proc, "%s/proc", root);
    /* The loader asks /proc/self/exe for the program's $ORIGIN. */
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)
        || mount("/proc", proc, NULL, MS_BIND | MS_REC, NULL) || chroot(root) || chdir(cwd)
        || (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))) {
        perror("oracle");
        return 126;
    }
    execve(program, its_arguments, environ_of_it);
    perror(program);
    return 126;
}

int main(int count, char **arguments)
{
    if (count > 6 && strcmp(arguments[1], "enter") == 0)
        return enter(arguments + 2);
    report(NULL, NULL);
    for (int i = 1; i < count; i++)
        step(arguments[i]);
    return 0;
}
