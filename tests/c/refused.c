/* Stores that are not to be used: each gives its own status and words, and nothing else happens. */

#include <dirent.h>
#include <fcntl.h>
#include <flags.h>
#include <sys/stat.h>

#include "publisher.h"

static char control[4096], folder[4096];

/* Finds the control page of the store, wherever its format keeps it. */
static void find_control(const char *directory, int depth)
{
    DIR *handle = opendir(directory);
    CHECK(handle != NULL);
    for (struct dirent *entry; (entry = readdir(handle)) != NULL;) {
        char path[4096];
        struct stat about;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%.2000s/%.255s", directory, entry->d_name);
        CHECK(lstat(path, &about) == 0);
        if (strcmp(entry->d_name, "control") == 0) {
            strcpy(control, path);
            snprintf(folder, sizeof folder, "%.2000s", directory);
        } else if (S_ISDIR(about.st_mode) && depth < 3) {
            find_control(path, depth + 1);
        }
    }
    closedir(handle);
}

static flags_status open_store(void)
{
    flags_client *client = NULL;
    flags_status status = flags_open("store", NULL, &client);
    if (status != FLAGS_OK)
        CHECK(client == NULL && strstr(flags_last_error(), "store") != NULL);
    else
        CHECK(flags_bool(client, "switch", NULL, false));
    flags_close(client);
    return status;
}

static void overwrite(size_t offset, const void *bytes, size_t count)
{
    int file = open(control, O_RDWR);
    CHECK(file >= 0);
    CHECK(pwrite(file, bytes, count, (off_t)offset) == (ssize_t)count);
    close(file);
}

int main(void)
{
    watchdog();
    publisher publisher = publisher_start("store");
    write_definition("flags.json", 1, 7);
    publisher_publish(&publisher, "flags.json");
    publisher_end(&publisher);
    find_control("store", 0);
    CHECK(control[0] != '\0');
    CHECK_EQ(open_store(), FLAGS_OK);

    /* Anybody may write it. */
    CHECK(chmod(control, 0666) == 0);
    CHECK_EQ(open_store(), FLAGS_UNTRUSTED);
    CHECK(chmod(control, 0644) == 0);
    CHECK_EQ(open_store(), FLAGS_OK);

    /* Another magic number at its beginning, and cut short. */
    char page[4096];
    int file = open(control, O_RDONLY);
    CHECK(file >= 0 && pread(file, page, sizeof page, 0) > 64);
    close(file);
    overwrite(0, "nonsense", 8);
    CHECK_EQ(open_store(), FLAGS_CORRUPT);
    overwrite(0, page, 8);
    CHECK_EQ(open_store(), FLAGS_OK);
    CHECK(truncate(control, 16) == 0);
    CHECK_EQ(open_store(), FLAGS_CORRUPT);

    /* A file where a directory should be. */
    CHECK_EQ(unlink(control), 0);
    CHECK(open_store() != FLAGS_OK);
    flags_client *client = NULL;
    CHECK(flags_open("flags.json", NULL, &client) != FLAGS_OK && client == NULL);
    return 0;
}
