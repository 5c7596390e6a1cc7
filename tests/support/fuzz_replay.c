/* Feeds files and folders to a libFuzzer harness without libFuzzer: the regression run of CTest. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    uint8_t *bytes = NULL;
    size_t length = 0, capacity = 0, got;
    do {
        if (length == capacity && !(bytes = realloc(bytes, capacity += 65536)))
            abort();
        got = fread(bytes + length, 1, capacity - length, file);
        length += got;
    } while (got > 0);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, length);
    free(bytes);
    return 1;
}

static unsigned replay_path(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return 0;
    if (!S_ISDIR(info.st_mode))
        return replay_file(path);
    DIR *folder = opendir(path);
    if (!folder)
        return 0;
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            count += replay_path(name);
    }
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    for (int i = 1; i < argc; i++)
        if (argv[i][0] != '-')
            count += replay_path(argv[i]);
    LLVMFuzzerTestOneInput(NULL, 0);
    printf("%u inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
